"""Files that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import node
from tempfile import TemporaryFile
from typing import BinaryIO

from filelock import FileLock

from extrapo.errors import MachineError, UserError

#: The rights to write of all but a folder's owner.
OTHERS = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time, by a lock on the file at `path`, whose folder is made; a process that dies gives it up.

    Raises:
        OSError: no such file can be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a folder that takes no files, as below /proc, the lock would wait for ever.
    path.touch()
    with FileLock(path):
        yield


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
    remove_abandoned(path)
    partial = partial_of(path)
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


def partial_of(path: Path) -> Path:
    """Where this process writes what is to become `path`: beside it, under a name of its own."""
    return path.with_name(f".{path.name}.{node()[:32]}-{os.getpid()}.partial")


def remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine have left that died while they wrote the same file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(node()[:32])}-*.partial"):
        number = left.name.removesuffix(".partial").rpartition("-")[2]
        if number.isdigit() and not is_alive(int(number)):
            with suppress(OSError):
                left.unlink()


def is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again: of ours, what is compiled and pages of help."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "extrapo"


def private_folder(path: Path) -> Path:
    """A folder of this user's, for what is run: made if need be, and closed to all others, as its parent is.

    Args:
        path: the folder.

    Returns:
        The same without links, which might lead elsewhere later.

    Raises:
        OSError: it cannot be made; it is somebody else's, or others may write to it, so that what lies there may be
            theirs; or they could put another in its place.
    """
    for link in (path, *path.parents):
        if link.is_symlink() and link.lstat().st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "the link belongs to another user", str(link))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = path.resolve()
    for folder in path.parents[1:]:
        check_held(folder)
    for folder in (path.parent, path):
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "the folder belongs to another user", str(folder))
        if found.st_mode & OTHERS:
            if folder == path:
                raise PermissionError(errno.EPERM, "others may write to the folder", str(folder))
            folder.chmod(0o700)
    return path


def check_held(folder: Path) -> None:
    """Whether nobody but this user and the system's can rename what is this user's in a folder.

    A group that may write to it is trusted: of many users it has no other member.

    Raises:
        PermissionError: others can.
    """
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "the folder belongs to another user", str(folder))
    # In a folder for all, as /tmp, the sticky bit leaves each what is theirs.
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, "everybody may write to the folder", str(folder))


def check_folder(path: Path, mend: str) -> None:
    """Whether a folder is at `path`, or could be made there.

    Args:
        path: the folder.
        mend: what to do where none can be.

    Raises:
        UserError: a file is in the way.
    """
    there = next((place for place in (path, *path.absolute().parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        so = "not a folder" if there == path else f"so {path} cannot be a folder"
        raise UserError(f"{there} is a file, {so}; {mend}")


def check_writable(path: Path) -> None:
    """Whether a file could be written at `path`, before anybody works for it; nothing stays of the attempt.

    Raises:
        UserError: it is a folder, or lies below a file.
        MachineError: its folder cannot be written.
    """
    if path.is_dir():
        raise UserError(f"'{path}' is a folder; the name of a file is expected")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise UserError(f"'{folder}' is a file, so '{path}' cannot be one")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as cause:
        raise MachineError(f"cannot write '{path}': {cause.strerror}") from cause


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all; returns its path."""
    with atomic_write(path) as file:
        file.write(text.encode())
    return path
