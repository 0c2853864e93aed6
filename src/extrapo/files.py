"""Files that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block is through; if it fails, what was there stays.

    Args:
        path: the file; its folder is made.
        durable: wait until the disk has it, so that a loss of power leaves the old file or the new one.

    Raises:
        OSError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        # Gone already if all went well; a disk that refuses this as well has refused the write before.
        with suppress(OSError):
            partial.unlink()


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all; returns its path."""
    with atomic_write(path) as file:
        file.write(text.encode())
    return path
