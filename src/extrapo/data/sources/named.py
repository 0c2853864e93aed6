"""The corpora of the papers, by their names: a folder of their files where there is one, else the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source, Split
from extrapo.data.sources.huggingface import Pinned
from extrapo.data.sources.reading import file_size, official_splits, text_blocks
from extrapo.data.sources.rows import row_document
from extrapo.data.sources.text import data_folder
from extrapo.errors import UserError
from extrapo.reading import path_of


class Hub(Source):
    """A corpus of the hub, at a pinned revision."""

    hub: ClassVar[Pinned]

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        if argument:
            raise UserError(f"the corpus '{self.name}' takes no path; for files of your own: parquet:{argument}")
        self.identity = self.hub.identity
        self.share = 0.01

    def parts(self) -> Sequence[Part]:
        splits = self.hub.splits()
        official = {split for _, split in splits} == {"train", "validation"}
        return [Part(partial(self._documents, name), split=split if official else None) for name, split in splits]

    def origin(self) -> dict[str, str]:
        return self.hub.origin

    def _documents(self, split: str) -> Iterator[Document]:
        for number, row in enumerate(self.hub.rows(split), start=1):
            yield row_document(row, "text", f"{self.name}, row {number}")


@SOURCES.register("fineweb-edu-10b")
class FineWebEdu(Hub):
    """Penedo et al., 2024, arXiv:2406.17557."""

    summary = "the sample of 10 billion tokens of FineWeb-Edu, from the Hugging Face hub; 1 % is held out"
    name = "fineweb-edu-10b"
    hub = Pinned("HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9", "sample-10BT")


@SOURCES.register("pg19")
class PG19(Hub):
    """Rae et al., 2019, arXiv:1911.05507; the tables of `emozilla/pg19`, for the original is a script."""

    summary = "PG-19, books before 1919, official splits, from the Hugging Face hub"
    name = "pg19"
    hub = Pinned("emozilla/pg19", "b7bca68072ef1d86348f080bbda0996648d94315")


@SOURCES.register("tinystories")
class TinyStories(Source):
    """Eldan and Li, 2023, arXiv:2305.07759."""

    summary = (
        "TinyStories, official splits; tinystories:FOLDER, tinystories in $EXTRAPO_DATA or ./data, else from the "
        "Hugging Face hub"
    )
    name = "tinystories"
    hub = Pinned("roneneldan/TinyStories", "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64")
    #: What stands between two stories in a file.
    mark = "<|endoftext|>"

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        self.files: dict[Path, Split | None] = {}
        try:
            folder = path_of(argument) if argument else data_folder(self.name, "a folder of TinyStories")
        except UserError as mistake:
            if not self.hub.installed():
                raise UserError(f"{mistake}, or install extrapo[data] to have it downloaded") from mistake
            self.identity = self.hub.identity
        else:
            self.files = official_splits(sorted(folder.glob("*.txt")))
            if not self.files:
                raise UserError(f"{folder} holds no stories: no file ends in .txt")

    def parts(self) -> Sequence[Part]:
        if self.identity is None:
            return [
                Part(partial(_stories, file, self.mark), file, split, file_size(file))
                for file, split in self.files.items()
            ]
        return [Part(partial(self._documents, name), None, split) for name, split in self.hub.splits()]

    def origin(self) -> dict[str, str]:
        return {} if self.identity is None else self.hub.origin

    def _documents(self, split: str) -> Iterator[Document]:
        return map(Document.of, self.hub.texts(split, "text"))


def _stories(path: Path, mark: str) -> Iterator[Document]:
    for story in split_at(text_blocks(path), mark):
        yield Document.of(story.strip("\n"))


def split_at(blocks: Iterable[str], mark: str) -> Iterator[str]:
    """What stands between the marks of a text that comes in blocks."""
    rest = ""
    for block in blocks:
        *whole, rest = (rest + block).split(mark)
        yield from whole
    yield rest
