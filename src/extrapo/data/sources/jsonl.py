"""JSON lines: a document per line, in one of its keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source
from extrapo.data.sources.reading import file_size, found, lines, official_splits
from extrapo.data.sources.rows import LONGEST_ROW, row_document
from extrapo.errors import UserError
from extrapo.reading import path_of


@SOURCES.register("jsonl")
class JSONLines(Source):
    """`jsonl:PATH?column=text`."""

    needs = "PATH"
    summary = "jsonl:PATH, JSON lines, a file or a folder of them; ?column=NAME where the text is not in `text`"
    options: ClassVar[Mapping[str, str]] = {"column": "text"}

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        self.files = official_splits(found(argument, (".jsonl", ".ndjson"), "jsonl"))
        self.name = path_of(argument).resolve().stem

    def parts(self) -> Sequence[Part]:
        read = partial(_documents, column=self.given["column"])
        return [Part(partial(read, file), file, split, file_size(file)) for file, split in self.files.items()]


def _documents(path: Path, column: str) -> Iterator[Document]:
    for number, line in lines(path, LONGEST_ROW):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as cause:
            raise UserError(f"{where}: not JSON: {cause}") from cause
        except RecursionError as cause:
            raise UserError(f"{where}: JSON nested too deep") from cause
        if not isinstance(row, dict):
            raise UserError(f"{where}: an object with a key '{column}' is expected, not {type(row).__name__}")
        yield row_document(row, column, where)
