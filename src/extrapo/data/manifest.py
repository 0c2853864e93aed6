"""The manifest of a prepared corpus: what lies in a folder of shards, and what tells that it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from extrapo.errors import MachineError, UserError

FORMAT = 2
"""Version of the layout: shards are flat little-endian arrays of ids, a separator before every document."""

NAME = "manifest.json"

VERIFIED_BYTES = 256_000_000
"""A corpus up to this size is checked by its hashes when it is opened (0.2 s at most), a larger one by its sizes."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _File(_Part):
    file: Annotated[str, Field(min_length=1)]
    bytes: NonNegativeInt
    sha256: str


class _Shard(_File):
    tokens: NonNegativeInt
    offset: NonNegativeInt = 0


class _Split(_Part):
    tokens: NonNegativeInt
    documents: NonNegativeInt
    text_bytes: NonNegativeInt
    annotations: NonNegativeInt
    shards: list[_Shard]
    documents_file: _File
    annotations_file: _File | None = None


class _Tokenizer(_Part):
    name: str
    sha256: str
    vocab_size: PositiveInt
    separator: NonNegativeInt


class _Splits(_Part):
    train: _Split
    validation: _Split


class Manifest(_Part):
    """What a manifest must say; it may say more."""

    format: Literal[2]
    corpus: str
    spec: str
    recipe: str
    sha256: str
    tokenizer: _Tokenizer
    source: dict[str, Any]
    dtype: Literal["<u2", "<u4"]
    splits: _Splits

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """No shard has more tokens than bytes for them, and a split has those of its shards."""
        width = int(self.dtype[-1])
        for split in (self.splits.train, self.splits.validation):
            if any(shard.offset + width * shard.tokens > shard.bytes for shard in split.shards):
                raise ValueError("more tokens than a shard has room for")
            if sum(shard.tokens for shard in split.shards) != split.tokens:
                raise ValueError("other tokens than those of the shards")
            if split.documents_file.bytes != 8 * (split.documents + 1):
                raise ValueError("other documents than there are borders of")
        return self


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None where there is none of this format, or one that says what cannot be."""
    try:
        manifest: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        Manifest.model_validate(manifest)
    except (OSError, ValueError, RecursionError):
        return None
    return manifest


def files(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every file that the manifest knows: {"file", "bytes", "sha256"}."""
    for split in manifest["splits"].values():
        yield from split["shards"]
        yield split["documents_file"]
        if split.get("annotations_file"):
            yield split["annotations_file"]


def fault(folder: Path, manifest: Mapping[str, Any], *, hashes: bool) -> str | None:
    """What is wrong with the files of a corpus, in a line; None if nothing is.

    Args:
        folder: where they lie.
        manifest: what should.
        hashes: read them all, instead of looking at their sizes.

    Raises:
        MachineError: a file that may not be read.
    """
    for entry in files(manifest):
        path = folder / entry["file"]
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as cause:
            raise MachineError(f"cannot read {path}: {cause.strerror}") from cause
        if size != entry["bytes"]:
            return f"{path} has {size:,} bytes instead of {entry['bytes']:,}: it was cut or written to"
        if hashes and sha256_of(path) != entry["sha256"]:
            return f"{path} was changed: its sha256 is not that of the manifest"
    return None


def check(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with a corpus that is about to be used, see `fault`."""
    size = sum(int(entry["bytes"]) for entry in files(manifest))
    return fault(folder, manifest, hashes=size <= VERIFIED_BYTES)


def entry(path: Path, **more: Any) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path), **more}


def sha256_of(path: Path) -> str:
    """Hash of a file's content; MachineError where it may not be read."""
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as cause:
        raise MachineError(f"cannot read {path}: {cause.strerror}") from cause


def require(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that is to hold a corpus; UserError where it does not."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return manifest
    if (folder / NAME).is_file():
        raise UserError(f"{folder / NAME} is damaged, or of another version of extrapo: prepare the corpus again")
    raise UserError(f"there is no prepared corpus in {folder}: it has no {NAME}")
