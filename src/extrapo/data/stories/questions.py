"""Recall points as questions: a text up to the answer, the answers it might have, how far back the right one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from extrapo.data.stories.annotations import RecallPoint
from extrapo.data.stories.presets import Story
from extrapo.data.stories.writer import BREAK

#: Text -> token ids, without separators.
Encode = Callable[[str], list[int]]


class PlacedQuestion(NamedTuple):
    """A question of a story that is at hand as token ids.

    Args:
        at: index of the answer's first token.
        candidates: token ids of each possible answer, with the blank before it where it has one.
        right: which of them it is.
        distance: tokens from the answer back to where it was last said.
        reach: tokens back to the beginning of the paragraph where it was last said: who sees so many has been told
            whose the answer is as well.
        kind: of the fact.
    """

    at: int
    candidates: tuple[tuple[int, ...], ...]
    right: int
    distance: int
    reach: int
    kind: str


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


def placed_questions(story: Story, encode: Encode) -> tuple[list[int], list[PlacedQuestion]]:
    """The token ids of a story up to its last answer, and one question for each recall point, in the order of the text.

    The story is encoded in pieces that end where an answer or the blank before it begins. A tokenizer that keeps words
    and the marks between them apart, as byte-level BPE does, gives the same ids as for the whole.
    """
    borders = sorted({_border(story.text, span) for point in story.points for span in (point.answer, point.statement)})
    ids: list[int] = []
    tokens = {0: 0}
    for start, end in pairwise([0, *borders]):
        ids += encode(story.text[start:end])
        tokens[end] = len(ids)
    found = []
    for point in story.points:
        at, said = tokens[_border(story.text, point.answer)], _border(story.text, point.statement)
        distance = at - tokens[said]
        paragraph = story.text.rfind(BREAK, 0, said) + 1
        found.append(
            PlacedQuestion(
                at,
                tuple(tuple(encode(answer)) for answer in _answers(story.text, point)),
                point.candidates.index(story.text[slice(*point.answer)]),
                distance,
                distance + len(encode(story.text[paragraph:said])),
                point.kind,
            )
        )
    return ids, found


def questions(story: Story, encode: Encode, *, length: int) -> Iterator[Question]:
    """One for each recall point whose context has `length` tokens, in the order of the text; see `placed_questions`."""
    ids, found = placed_questions(story, encode)
    for one in found:
        if one.at >= length:
            yield Question(ids[one.at - length : one.at], one.candidates, one.right, one.distance, one.kind)


def _border(text: str, span: tuple[int, int]) -> int:
    """Where the tokens of an answer begin: at the blank before it, if there is one."""
    return span[0] - 1 if span[0] and text[span[0] - 1] == " " else span[0]


def _answers(text: str, point: RecallPoint) -> Iterator[str]:
    before = text[_border(text, point.answer) : point.answer[0]]
    return (before + candidate for candidate in point.candidates)
