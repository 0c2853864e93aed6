"""Shards as they are written: a journal says how much of each file is good, so that nothing is encoded twice.

What is encoded goes to the ends of files in a folder of its own; then a line of the journal says how long they are.
After a kill -9 the files are cut to what the last whole line says, and the next job is the one behind it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from extrapo.data.encoding import Encoded
from extrapo.data.manifest import entry
from extrapo.data.sources import SPLITS, Split

SHARD_TOKENS = 100_000_000
"""A shard is closed once it has so many."""

JOURNAL = "journal.jsonl"


@dataclass
class Written:
    """How far one split is."""

    tokens: int = 0
    documents: int = 0
    text_bytes: int = 0
    note_bytes: int = 0
    notes: int = 0
    shards: list[int] = field(default_factory=lambda: [0])


class ShardWriter:
    """Appends encoded jobs to the shards in a folder.

    Args:
        folder: of the work; what is there goes on, if it was begun for the same recipe.
        recipe: what is being prepared.
        dtype: of the ids.

    Raises:
        OSError: the disk refuses.
    """

    def __init__(self, folder: Path, recipe: str, dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        self.part = self.done = 0
        self.splits: dict[Split, Written] = {split: Written() for split in SPLITS}
        self._width = np.dtype(dtype).itemsize
        if not self._resume(recipe):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            self.part = self.done = 0
            self.splits = {split: Written() for split in SPLITS}
            (folder / JOURNAL).write_text(json.dumps({"recipe": recipe}) + "\n", encoding="utf-8")

    @property
    def tokens(self) -> int:
        """Of both splits."""
        return sum(split.tokens for split in self.splits.values())

    @property
    def text_bytes(self) -> int:
        """Of both splits."""
        return sum(split.text_bytes for split in self.splits.values())

    def append(self, encoded: dict[Split, Encoded], part: int, done: int) -> None:
        """Add what a job gave; `done` stretches of `part` are through with it."""
        for split, one in encoded.items():
            state = self.splits[split]
            if state.shards[-1] >= SHARD_TOKENS:
                state.shards.append(0)
            self._add(self._shard(split, len(state.shards) - 1), one.ids.astype(self.dtype, copy=False).tobytes())
            self._add(self._documents(split), (one.starts + state.tokens).astype("<i8").tobytes())
            notes = "".join(
                json.dumps({**note, "token": note["token"] + state.tokens}, ensure_ascii=False) + "\n"
                for note in one.annotations
            ).encode()
            self._add(self._notes(split), notes)
            state.shards[-1] += len(one.ids)
            state.tokens += len(one.ids)
            state.documents += len(one.starts)
            state.text_bytes += one.text_bytes
            state.note_bytes += len(notes)
            state.notes += len(one.annotations)
        self.part, self.done = part, done
        line = {"part": part, "done": done, "splits": {split: vars(state) for split, state in self.splits.items()}}
        self._add(self.folder / JOURNAL, (json.dumps(line) + "\n").encode())

    def finish(self) -> dict[str, Any]:
        """What the manifest says of each split; may be done again after a kill, for the journal stays."""
        summary: dict[str, Any] = {}
        for split, state in self.splits.items():
            self._add(self._documents(split), np.array([state.tokens], "<i8").tobytes())
            shards = []
            for number, tokens in enumerate(state.shards):
                path = self._shard(split, number)
                path.touch()
                shards.append(entry(path, tokens=tokens))
            summary[split] = {
                "tokens": state.tokens,
                "documents": state.documents,
                "text_bytes": state.text_bytes,
                "annotations": state.notes,
                "shards": shards,
                "documents_file": entry(self._documents(split)),
            }
            if state.notes:
                summary[split]["annotations_file"] = entry(self._notes(split))
            else:
                self._notes(split).unlink(missing_ok=True)
        return summary

    def _shard(self, split: Split, number: int) -> Path:
        return self.folder / (f"{split}-{number:05d}.bin" if number else f"{split}.bin")

    def _documents(self, split: Split) -> Path:
        return self.folder / f"{split}.documents"

    def _notes(self, split: Split) -> Path:
        return self.folder / f"{split}.annotations.jsonl"

    @staticmethod
    def _add(path: Path, content: bytes) -> None:
        if content:
            with path.open("ab") as file:
                file.write(content)

    def _resume(self, recipe: str) -> bool:
        """Take up what was begun; whether there was something."""
        try:
            journal = (self.folder / JOURNAL).read_bytes()
            first, *later = journal[: journal.rindex(b"\n")].split(b"\n")
            if json.loads(first) != {"recipe": recipe}:
                return False
            if later:
                line = json.loads(later[-1])
                self.part, self.done = line["part"], line["done"]
                self.splits = {split: Written(**line["splits"][split]) for split in SPLITS}
            for split, state in self.splits.items():
                for number, tokens in enumerate(state.shards):
                    _cut(self._shard(split, number), tokens * self._width)
                self._shard(split, len(state.shards)).unlink(missing_ok=True)
                _cut(self._documents(split), state.documents * 8)
                _cut(self._notes(split), state.note_bytes)
            _cut(self.folder / JOURNAL, journal.rindex(b"\n") + 1)
        except (FileNotFoundError, ValueError, KeyError, TypeError, EOFError):
            return False
        return True


def _cut(path: Path, size: int) -> None:
    """Cut a file to a size; EOFError if it is shorter."""
    if not path.exists():
        if size:
            raise EOFError(path)
        return
    if path.stat().st_size < size:
        raise EOFError(path)
    os.truncate(path, size)
