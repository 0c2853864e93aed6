"""Data sets of the Hugging Face hub, or in a folder as `datasets` opens them: streamed, at a pinned revision."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source, Split
from extrapo.data.sources.rows import row_document
from extrapo.errors import MachineError, UserError, unknown
from extrapo.reading import path_of

_WORDS: tuple[tuple[str, Split], ...] = (("train", "train"), ("validation", "validation"), ("valid", "validation"))


@dataclass(frozen=True)
class Pinned:
    """A data set at one revision.

    Args:
        name: `owner/name` on the hub, or a folder.
        revision: the commit; "" for a folder.
        config: one of several data sets in it, "" for the usual one.
    """

    name: str
    revision: str
    config: str = ""

    @property
    def identity(self) -> str:
        """What pins the text."""
        return f"hf {self.name} {self.revision} {self.config}"

    @property
    def origin(self) -> dict[str, str]:
        """For the manifest."""
        return {"dataset": self.name, "revision": self.revision, "config": self.config}

    @staticmethod
    def installed() -> bool:
        """Whether the library is there."""
        return find_spec("datasets") is not None

    def splits(self) -> list[tuple[str, Split]]:
        """The splits to read and what they are; one that is neither training nor validation is left out."""
        names = self.open()
        return [(name, split) for name, split in _WORDS if name in names]

    def rows(self, split: str) -> Iterator[Mapping[str, Any]]:
        """The rows of a split, as they come."""
        there = self.open()
        if split not in there:
            raise UserError(f"{self.name}: {unknown('split', split, map(str, there))}")
        with _said(self):
            yield from there[split]

    def texts(self, split: str, column: str) -> Iterator[str]:
        """One column of a split."""
        for row in self.rows(split):
            yield row[column]

    def open(self) -> Mapping[str, Any]:
        """Split -> its rows, none of them read.

        Raises:
            UserError: the library is missing, or there is no such data set, revision or configuration.
            MachineError: the hub cannot be reached.
        """
        if not self.installed():
            raise UserError("data sets of the Hugging Face hub need the library datasets: pip install 'extrapo[data]'")
        import datasets

        datasets.disable_progress_bars()
        folder = path_of(self.name)
        with _said(self):
            if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
                saved = datasets.load_from_disk(str(folder))
                return saved if isinstance(saved, Mapping) else {"train": saved}
            where = str(folder) if folder.is_dir() else self.name
            return datasets.load_dataset(  # type: ignore[no-any-return]
                where, self.config or None, revision=self.revision or None, streaming=True, trust_remote_code=None
            )


class _said:
    """What the library says in many lines, in one."""

    def __init__(self, pinned: Pinned) -> None:
        self.name = pinned.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, UserError | MachineError):
            return
        line = " ".join(str(error).split())[:300]
        if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in _UNREACHABLE:
            raise MachineError(f"the Hugging Face hub cannot be reached for '{self.name}': {line}") from error
        if isinstance(error, ValueError | FileNotFoundError | KeyError) or "datasets" in type(error).__module__:
            raise UserError(f"the data set '{self.name}' cannot be read: {line}") from error


_UNREACHABLE = frozenset(
    {"ConnectError", "ConnectTimeout", "ReadTimeout", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}
)


@SOURCES.register("hf")
class HuggingFace(Source):
    """`hf:OWNER/NAME?revision=COMMIT&config=NAME&split=NAME&column=NAME`."""

    needs = "OWNER/NAME"
    summary = (
        "hf:OWNER/NAME?revision=COMMIT, a data set of the Hugging Face hub, streamed (config=, split=, column= where "
        "they are not the usual ones), or hf:FOLDER"
    )
    options: ClassVar[Mapping[str, str]] = {"revision": "", "config": "", "split": "", "column": "text"}
    #: Of the hub's large ones.
    share = 0.01

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        if not argument:
            raise UserError("the corpus 'hf' needs a data set: hf:OWNER/NAME?revision=COMMIT, or hf:FOLDER")
        folder = path_of(argument)
        self.data = Pinned(argument, self.given["revision"], self.given["config"])
        if folder.is_dir():
            self.share = 0.05
            self.identity = f"{self.data.identity} {_signature(folder)} {self.given['split']} {self.given['column']}"
        elif argument.startswith((".", "/", "~")):
            raise UserError(f"there is no folder {folder}")
        elif not self.data.revision:
            raise UserError(
                f"a data set changes under its name: pin it, as hf:{argument}?revision=COMMIT (a commit or a tag)"
            )
        else:
            self.identity = f"{self.data.identity} {self.given['split']} {self.given['column']}"
        self.name = Path(argument).name.lower()

    def parts(self) -> Sequence[Part]:
        column = self.given["column"]
        if self.given["split"]:
            # One split alone: a hash decides what is held out.
            return [Part(partial(_documents, self.data, self.given["split"], column))]
        splits = self.data.splits()
        if not splits:
            raise UserError(f"{self.data.name}: {unknown('split', 'train', map(str, self.data.open()))}")
        official = {split for _, split in splits} == {"train", "validation"}
        return [
            Part(partial(_documents, self.data, name, column), split=split if official else None)
            for name, split in splits
        ]

    def origin(self) -> dict[str, str]:
        return self.data.origin


def _documents(data: Pinned, split: str, column: str) -> Iterator[Document]:
    for number, row in enumerate(data.rows(split), start=1):
        yield row_document(row, column, f"{data.name}, row {number}")


def _signature(folder: Path) -> str:
    """The files of a folder, by what tells that one has changed."""
    stats = ((str(path), os.stat(path)) for path in sorted(folder.rglob("*")) if path.is_file())
    return " ".join(f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}" for path, stat in stats)
