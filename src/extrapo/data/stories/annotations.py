"""Recall points: where a text needs again what it said before, as character spans, and as tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple


class RecallPoint(NamedTuple):
    """A place in a text that one can only guess, or know from far back.

    Args:
        answer: (start, end) characters of the answer.
        statement: (start, end) characters of where the answer was last said. It is not said in between.
        kind: of the fact, see `facts.KINDS`.
        candidates: answers to facts of the kind that the text has given so far, the right one included, spelled as
            the answer would be: some are said between the statement and the answer.
    """

    answer: tuple[int, int]
    statement: tuple[int, int]
    kind: str
    candidates: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._asdict().items()}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> RecallPoint:
        """From JSON."""
        answer, statement = ((int(span[0]), int(span[1])) for span in (row["answer"], row["statement"]))
        return cls(answer, statement, str(row["kind"]), tuple(row["candidates"]))


class TokenPoint(NamedTuple):
    """A recall point in tokens.

    Args:
        first, last: index of the first and the last token that have a character of the answer.
        statement: index of the first token that has a character of the statement's answer.
        kind: as in `RecallPoint`.
    """

    first: int
    last: int
    statement: int
    kind: str

    @property
    def distance(self) -> int:
        """How many tokens back a model has to look from the answer."""
        return self.first - self.statement


def in_tokens(points: Sequence[RecallPoint], starts: Sequence[int]) -> list[TokenPoint]:
    """Recall points as indices of tokens.

    Args:
        points: of one document.
        starts: character at which each token of the document starts, ascending, the first at 0. A tokenizer that
            takes the blank before a word into the word's token is served as well.
    """
    return [
        TokenPoint(
            bisect_right(starts, point.answer[0]) - 1,
            bisect_left(starts, point.answer[1]) - 1,
            bisect_right(starts, point.statement[0]) - 1,
            point.kind,
        )
        for point in points
    ]
