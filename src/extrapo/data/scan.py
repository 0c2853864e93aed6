"""What is in a corpus before it is encoded: a hash of every document, kept as long as the files do not change."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extrapo.data.document import digests
from extrapo.data.sources import Part, Split
from extrapo.data.split import held_out
from extrapo.errors import MachineError
from extrapo.files import atomic_write

SETTLED_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may change again within the same tick of the clock."""

#: Of each document: the first 8 bytes of its key's hash, the first 16 of its text's, and its characters.
ROW = np.dtype([("key", "<u8"), ("text", "S16"), ("characters", "<u8")])

Rows: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Scan:
    """The documents of a corpus that are not blank, part by part.

    Args:
        rows: (documents,) of ROW.
        sizes: documents of each part.
        validation: (documents,) bool, which of them are held out.
    """

    rows: Rows
    sizes: tuple[int, ...]
    validation: NDArray[np.bool_]

    @property
    def train_sha256(self) -> str:
        """Hash of the documents that are trained on."""
        return sha256(self.rows["text"][~self.validation].tobytes()).hexdigest()

    @property
    def sha256(self) -> str:
        """Hash of both splits, whatever the files are called."""
        held = sha256(self.rows["text"][self.validation].tobytes()).hexdigest()
        return sha256(f"{self.train_sha256} {held}".encode()).hexdigest()

    @property
    def train_characters(self) -> int:
        """Characters that are trained on."""
        return int(self.rows["characters"][~self.validation].sum())


def scan(
    parts: Sequence[Part], share: float, kept: Path | None, tell: Callable[[int], None] = lambda size: None
) -> Scan:
    """Hash every document, those of files that have not changed since the last time excepted.

    Args:
        parts: of the corpus.
        share: of the characters to hold out, where no part says what is validation.
        kept: the file of what is remembered; None remembers nothing.
        tell: called with the bytes of each part that was read.

    Raises:
        UserError, MachineError: what the parts raise.
    """
    before = {} if kept is None else dict(_remembered(kept))
    rows, signatures = [], []
    began = time.time_ns()
    fresh = False
    for part in parts:
        signature = _signature(part.path)
        known = before.get(json.dumps(signature)) if signature is not None else None
        if known is None:
            known = read(part)
            tell(part.size)
            fresh = True
        if signature is not None and signature[1] > began - SETTLED_NS:
            signature = None
        rows.append(known)
        signatures.append(signature)
    sizes = tuple(len(one) for one in rows)
    everything = np.concatenate(rows) if rows else np.empty(0, ROW)
    if fresh and kept is not None:
        _remember(kept, signatures, sizes, everything)
    return Scan(everything, sizes, _validation(everything, sizes, [part.split for part in parts], share))


def read(part: Part) -> Rows:
    """The documents of a part, in its order."""
    rows = []
    for document in part.documents():
        key, text, characters, blank = digests(document)
        if not blank:
            rows.append((int.from_bytes(key[:8], "big"), text[:16], characters))
    return np.array(rows, ROW)


def _validation(rows: Rows, sizes: Sequence[int], splits: Sequence[Split | None], share: float) -> NDArray[np.bool_]:
    if any(split is not None for split in splits):
        return np.repeat(np.array([split == "validation" for split in splits], bool), sizes)
    return held_out(rows["key"], rows["text"], rows["characters"], share)


def _signature(path: Path | None) -> list[Any] | None:
    """What tells that a file has changed: place, times of its content and of its entry, size, inode."""
    if path is None:
        return None
    try:
        stat = os.stat(path)
    except OSError as cause:
        raise MachineError(f"cannot read {path}: {cause.strerror}") from cause
    return [str(path.absolute()), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino]


def _remembered(kept: Path) -> Iterator[tuple[str, Rows]]:
    """The parts as they were, by their signatures; nothing where it cannot be read."""
    # A damaged archive ends in whatever its reader meets.
    with suppress(Exception), np.load(kept, allow_pickle=False) as file:
        rows, start = file["rows"], 0
        if rows.dtype != ROW:
            return
        for signature, size in zip(json.loads(str(file["signatures"])), file["sizes"].tolist(), strict=True):
            if signature is not None:
                yield json.dumps(signature), rows[start : start + size]
            start += size


def _remember(kept: Path, signatures: Sequence[Any], sizes: Sequence[int], rows: Rows) -> None:
    # What cannot be kept is read again.
    with suppress(OSError), atomic_write(kept) as file:
        np.savez(file, rows=rows, sizes=np.array(sizes, np.int64), signatures=np.array(json.dumps(signatures)))
