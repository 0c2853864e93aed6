"""Rows of a table as documents: a column of text, and another one of annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from extrapo.data.document import Annotation, Document
from extrapo.errors import UserError, unknown

LONGEST_ROW = 200_000_000
"""Bytes of the longest row that is taken: it has to be held in memory."""


#: What mends it.
SAY_WHICH = "say which holds the text by ?column=NAME behind the path"


def row_document(row: Mapping[str, Any], column: str, where: str) -> Document:
    """The document of one row.

    Args:
        row: column -> value. A column `annotations` holds a list of {"start", "end", "since", ...}, see `Annotation`;
            whatever else stands in one is its label.
        column: the one of the text.
        where: the row, for an error.

    Raises:
        UserError: no such column, or no text in it, or annotations that are none.
    """
    if column not in row:
        raise UserError(f"{where}: {unknown('column', column, map(str, row))}; {SAY_WHICH}")
    text = row[column]
    if text is None:
        return Document.of("")
    if not isinstance(text, str):
        raise UserError(f"{where}: the column '{column}' holds {type(text).__name__}, not text")
    if not _is_utf8(text):
        raise UserError(f"{where}: half of a surrogate pair, which is no text")
    annotations = row.get("annotations") or ()
    if not isinstance(annotations, Sequence):
        raise UserError(f"{where}: a list of annotations is expected, not {type(annotations).__name__}")
    return Document.of(text, annotations=tuple(_annotations(annotations, len(text), where)))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _annotations(values: Any, length: int, where: str) -> Iterator[Annotation]:
    for value in values:
        try:
            label = dict(value)
            start, end, since = int(label.pop("start")), int(label.pop("end")), label.pop("since", None)
            inside = 0 <= start < end <= length and (since is None or 0 <= int(since) <= start)
        except (TypeError, ValueError, KeyError, OverflowError) as cause:
            raise UserError(f"{where}: an annotation needs a start and an end: {value!r}") from cause
        if not inside:
            raise UserError(f"{where}: an annotation outside of the text, or since a later place: {value!r}")
        yield Annotation(start, end, None if since is None else int(since), label)
