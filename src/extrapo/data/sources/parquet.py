"""Parquet tables: a document per row, in one of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source
from extrapo.data.sources.reading import file_size, found, official_splits, unreadable
from extrapo.data.sources.rows import SAY_WHICH, row_document
from extrapo.errors import UserError, unknown
from extrapo.reading import path_of

ROWS = 64
"""Rows that are held at once."""


@SOURCES.register("parquet")
class Parquet(Source):
    """`parquet:PATH?column=text`."""

    needs = "PATH"
    summary = "parquet:PATH, a table or a folder of them; ?column=NAME where the text is not in `text`"
    options: ClassVar[Mapping[str, str]] = {"column": "text"}

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        self.files = official_splits(found(argument, (".parquet",), "parquet"))
        self.name = path_of(argument).resolve().stem

    def parts(self) -> Sequence[Part]:
        read = partial(_documents, column=self.given["column"])
        return [Part(partial(read, file), file, split, file_size(file)) for file, split in self.files.items()]


def _documents(path: Path, column: str) -> Iterator[Document]:
    table = _table(path)
    try:
        names = table.schema_arrow.names
        if column not in names:
            raise UserError(f"{path}: {unknown('column', column, names)}; {SAY_WHICH}")
        columns = [name for name in (column, "annotations") if name in names]
        for number, batch in enumerate(table.iter_batches(batch_size=ROWS, columns=columns)):
            for place, row in enumerate(batch.to_pylist()):
                yield row_document(row, column, f"{path}, row {number * ROWS + place + 1}")
    except _arrow().ArrowException as cause:
        raise UserError(f"{path} is damaged: {' '.join(str(cause).split())}") from cause
    finally:
        table.close()


def _table(path: Path) -> Any:
    try:
        return _arrow().parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except _arrow().ArrowException as cause:
        raise UserError(f"{path} is not a parquet table: {' '.join(str(cause).split())}") from cause
    except OSError as cause:
        raise unreadable(path, cause) from cause


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as cause:
        raise UserError("parquet tables need the library pyarrow: pip install 'extrapo[data]'") from cause
    return pyarrow
