"""Recall points as questions: a text up to the answer, the answers it might have, how far back the right one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from extrapo.data.stories.annotations import RecallPoint
from extrapo.data.stories.presets import Story

#: Text -> token ids, without separators.
Encode = Callable[[str], list[int]]


class Question(NamedTuple):
    """What a model is asked, for its likelihoods of the candidates after the context.

    Args:
        context: token ids before the answer, the last of the story so far.
        candidates: token ids of each possible answer, with the blank before it where it has one.
        right: which of them it is.
        distance: tokens from the answer back to where it was last said; beyond the context where it is larger.
        kind: of the fact.
    """

    context: list[int]
    candidates: tuple[tuple[int, ...], ...]
    right: int
    distance: int
    kind: str


def questions(story: Story, encode: Encode, *, length: int) -> Iterator[Question]:
    """One for each recall point whose context has `length` tokens, in the order of the text.

    The story is encoded in pieces that end where an answer or the blank before it begins. A tokenizer that keeps words
    and the marks between them apart, as byte-level BPE does, gives the same ids as for the whole.
    """
    borders = sorted({_border(story.text, span) for point in story.points for span in (point.answer, point.statement)})
    ids: list[int] = []
    tokens = {0: 0}
    for start, end in pairwise([0, *borders]):
        ids += encode(story.text[start:end])
        tokens[end] = len(ids)
    for point in story.points:
        at = tokens[_border(story.text, point.answer)]
        if at >= length:
            distance = at - tokens[_border(story.text, point.statement)]
            candidates = tuple(tuple(encode(answer)) for answer in _answers(story.text, point))
            right = point.candidates.index(story.text[slice(*point.answer)])
            yield Question(ids[at - length : at], candidates, right, distance, point.kind)


def _border(text: str, span: tuple[int, int]) -> int:
    """Where the tokens of an answer begin: at the blank before it, if there is one."""
    return span[0] - 1 if span[0] and text[span[0] - 1] == " " else span[0]


def _answers(text: str, point: RecallPoint) -> Iterator[str]:
    before = text[_border(text, point.answer) : point.answer[0]]
    return (before + candidate for candidate in point.candidates)
