"""The real text beside the project, and the documents of a corpus in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from extrapo.data.preparation import documents, text_of
from extrapo.data.progress import Unwatched
from extrapo.data.sources import open_source


class Splits(NamedTuple):
    """The documents of a corpus, and its hash."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    sha256: str


def splits(spec: str, kept: Path | None = None) -> Splits:
    """What a spec names, in memory."""
    text = text_of(open_source(spec), kept or Path(os.environ["EXTRAPO_CACHE"]), Unwatched())
    train, validation = [], []
    for number, _, part, document in documents(text):
        (validation if text.held_out(number, part, document) else train).append("".join(document.pieces))
    return Splits(tuple(train), tuple(validation), text.sha256)


def shared(name: str) -> Path:
    """A folder of real text beside the project, where there is one."""
    home = os.environ.get("EXTRAPO_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data"
    path = Path(home) / name
    if not path.exists():
        pytest.skip(f"no {name} in {home}; EXTRAPO_SHARED_DATA names the folder of the real text")
    return path
