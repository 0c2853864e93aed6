"""The manifest of a prepared corpus: what lies in a folder of shards, and what tells that it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any

from extrapo.errors import MachineError, UserError

FORMAT = 2
"""Version of the layout: shards are flat little-endian arrays of ids, a separator before every document."""

NAME = "manifest.json"

VERIFIED_BYTES = 256_000_000
"""A corpus up to this size is checked by its hashes when it is opened (0.2 s at most), a larger one by its sizes."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None where there is none of this format."""
    try:
        manifest: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("format") == FORMAT else None


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
