"""The line that a user types next: the program as it is found from here, the flags that find the same runs again."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from extrapo.config import StoreSettings
from extrapo.location import redacted


def following(words: Sequence[str], store: StoreSettings) -> str:
    """A command on the runs of this store, to be pasted; a password in an address is left for the user to fill in."""
    parts = [*program(), *words]
    if store.tracking_uri is not None:
        parts += ["--tracking-uri", redacted(store.tracking_uri)]
    if store.root != StoreSettings.model_fields["root"].default:
        parts += ["--root", store.root]
    return shlex.join(parts)


def program() -> list[str]:
    """How this program is called from this folder: `extrapo` where the shell finds this one by its name, else the path
    of its script, as in `.venv/bin/extrapo`, or Python's own with `-m extrapo` where there is none.
    """
    script = Path(sys.executable).with_name("extrapo")
    if not os.access(script, os.X_OK):
        return [_from_here(Path(sys.executable)), "-m", "extrapo"]
    found = shutil.which("extrapo")
    is_first = found is not None and os.path.samefile(found, script)
    return ["extrapo" if is_first else _from_here(script)]


def _from_here(path: Path) -> str:
    """The path of a file from this folder, where it is below; links stay, for Python finds its environment by them."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        # It was deleted since.
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
