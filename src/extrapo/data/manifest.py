"""The manifest of a prepared corpus: what lies in a folder of shards, and what tells that it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from extrapo.errors import MachineError, UserError, complaints
from extrapo.reading import check_regular, shortened

FORMAT = 2
"""Version of the layout: shards are flat little-endian arrays of ids, a separator before every document."""

NAME = "manifest.json"

BLOCK = 1 << 24
"""Tokens that are looked at at once."""

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

    def names(self) -> Iterator[str]:
        """Of all its files."""
        parts = (*self.shards, self.documents_file, self.annotations_file)
        return (one.file for one in parts if one is not None)


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
        if self.tokenizer.separator >= self.tokenizer.vocab_size:
            raise ValueError("a separator that is no id")
        taken: dict[str, list[tuple[int, int]]] = {}
        for split in (self.splits.train, self.splits.validation):
            if any(not self._is_ours(name) for name in split.names()):
                raise ValueError("a file outside of the folder")
            for shard in split.shards:
                if shard.offset % width:
                    raise ValueError("an id that begins within another")
                taken.setdefault(shard.file, []).append((shard.offset, shard.offset + width * shard.tokens))
            if any(shard.offset + width * shard.tokens > shard.bytes for shard in split.shards):
                raise ValueError("more tokens than a shard has room for")
            if sum(shard.tokens for shard in split.shards) != split.tokens:
                raise ValueError("other tokens than those of the shards")
            if split.documents_file.bytes != 8 * (split.documents + 1):
                raise ValueError("other documents than there are borders of")
        for stretches in taken.values():
            if any(one[1] > other[0] for one, other in pairwise(sorted(stretches)) if other[0] < other[1]):
                raise ValueError("the same tokens twice")
        return self

    def _is_ours(self, name: str) -> bool:
        """Whether a file lies in the folder, or is one of somebody's token files, which stay where they are."""
        if "\0" in name:
            return False
        path = PurePosixPath(name)
        if self.spec.startswith("bin:") and path.suffix == ".bin":
            if path.is_absolute():
                return True
            if path.parts[0] == "..":
                path = path.relative_to("..")
        return path.name == str(path) and path.name not in ("", ".", "..")


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
            check_regular(path)
            size = path.stat().st_size
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as cause:
            raise MachineError(f"cannot read {path}: {cause.strerror}") from cause
        if size != entry["bytes"]:
            return f"{path} has {size:,} bytes instead of {entry['bytes']:,}: it was cut or written to"
        if hashes and sha256_of(path) != entry["sha256"]:
            return f"{path} was changed: its sha256 is not that of the manifest"
    return content_fault(folder, manifest) if hashes else None


def content_fault(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with what the files of a corpus hold, in a line: a hash says only that they are those of the
    manifest. None if every id is one of the vocabulary, and the documents of a split follow one another to its end.
    """
    ids = manifest["tokenizer"]["vocab_size"]
    for split in manifest["splits"].values():
        path = folder / split["documents_file"]["file"]
        borders = np.fromfile(path, "<i8")
        if borders[0] != 0 or borders[-1] != split["tokens"] or (np.diff(borders) < 0).any():
            return f"{path} holds no borders of documents"
        for shard in split["shards"]:
            path = folder / shard["file"]
            top = _largest(path, manifest["dtype"], shard.get("offset", 0), shard["tokens"])
            if top >= ids:
                return f"{path} holds the id {top:,}, and its tokenizer has only {ids:,}"
    return None


def _largest(path: Path, dtype: str, offset: int, count: int) -> int:
    """The largest id of a shard; -1 where it has none."""
    if not count:
        return -1
    found = np.memmap(path, dtype, "r", offset, (count,))
    return max(int(found[at : at + BLOCK].max()) for at in range(0, count, BLOCK))


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
        why = _complaint(folder / NAME)
        raise UserError(
            f"{folder / NAME} is damaged, or of another version of extrapo ({why}): prepare the corpus again"
        )
    raise UserError(f"there is no prepared corpus in {folder}: it has no {NAME}")


def _complaint(path: Path) -> str:
    """Why a manifest is none."""
    try:
        Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as cause:
        return shortened(complaints(cause))
    except (OSError, ValueError, RecursionError):
        pass
    return "no JSON"
