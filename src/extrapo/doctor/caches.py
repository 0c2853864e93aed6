"""What lies in the caches, and how much: prepared text, compiled code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from extrapo.data.store import home
from extrapo.doctor.check import Check
from extrapo.files import cache_folder


def checks() -> Iterator[Check]:
    """A line per folder."""
    text = home(None)
    code = cache_folder()
    yield of_folder("corpora", text / "corpora")
    yield of_folder("tokenizers", text / "tokenizers")
    yield of_folder("compiled", code / "compiled")
    yield of_folder("inductor", code / "inductor")
    yield writable(text)


def of_folder(name: str, folder: Path) -> Check:
    """How much is in it."""
    if not folder.is_dir():
        return Check("cache", name, "absent", f"{folder}: nothing yet", 0)
    sizes = [size for path in folder.rglob("*") if (size := size_of(path)) is not None]
    total = sum(sizes)
    return Check("cache", name, "ok", f"{folder}: {len(sizes):,} files, {total / 2**20:,.1f} MiB", total)


def size_of(path: Path) -> int | None:
    """Of a file; None of all else, and of what another process has just removed."""
    try:
        return path.lstat().st_size if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def writable(folder: Path) -> Check:
    """Whether something can be put into a folder, without doing so."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if os.access(nearest, os.W_OK):
        return Check("cache", "writable", "ok", f"{folder}; EXTRAPO_CACHE moves it")
    return Check("cache", "writable", "broken", f"{nearest} cannot be written: set EXTRAPO_CACHE to another folder")
