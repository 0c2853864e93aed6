"""What takes long to find out and is kept from one process to the next, in a folder of this user's, for as long as what
it was found out of is the same.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from extrapo.files import cache_folder, private_folder, write_text


def state_of_package() -> str:
    """A fingerprint of the package's own files, and of the Python that reads them."""
    package = Path(__file__).parent
    files = sorted(Path(folder, name) for folder, _, names in os.walk(package) for name in names)
    parts: list[object] = [sys.version]
    for file in files:
        if file.suffix == ".py":
            state = file.stat()
            parts += [file, state.st_mtime_ns, state.st_size]
    return sha256(repr(parts).encode()).hexdigest()


def kept_text(name: str, mark: str) -> str | None:
    """What was kept under a name; None where nothing was, or of something else.

    Args:
        name: of its file, below the folder of what is kept.
        mark: a fingerprint of all that it depends on.
    """
    with suppress(OSError, ValueError):
        found, _, text = place(name).read_text("utf-8").partition("\n")
        if found == mark:
            return text
    return None


def keep(name: str, mark: str, text: str) -> None:
    """Keep a text, where anything can be kept; see `kept_text`."""
    with suppress(OSError):
        write_text(place(name), f"{mark}\n{text}")


def place(name: str) -> Path:
    """The file of a name, in a folder that nobody else can write; OSError where there can be none."""
    path = cache_folder() / name
    return private_folder(path.parent) / path.name
