"""Recall points as questions: the context is the story's, and every candidate could stand after it."""

from __future__ import annotations

import pytest

from extrapo.data.stories import Story, questions, story
from extrapo.data.vocabularies import make_tokenizer


@pytest.fixture(scope="module")
def told() -> Story:
    return story("long-stories-5k-10k", 0)


def letters(text: str) -> list[int]:
    """A token per letter."""
    return [ord(letter) for letter in text]


@pytest.mark.parametrize("length", [1, 300, 5_000])
def test_a_context_goes_on_with_the_right_answer(told: Story, length: int) -> None:
    asked = list(questions(told, letters, length=length))
    points = [point for point in told.points if point.answer[0] > length]
    assert len(asked) == len(points) > 3
    for question, point in zip(asked, points, strict=True):
        said = "".join(map(chr, [*question.context, *question.candidates[question.right]]))
        assert told.text[: point.answer[1]].endswith(said)
        assert len(question.context) == length
        assert question.kind == point.kind
        assert len(set(question.candidates)) == len(point.candidates) >= 3
        texts = {"".join(map(chr, candidate)).strip() for candidate in question.candidates}
        assert texts == set(point.candidates)


def test_the_answer_was_said_where_the_distance_says(told: Story) -> None:
    for question in questions(told, letters, length=2_000):
        answer = question.candidates[question.right]
        if question.distance <= 2_000:
            there = question.context[-question.distance :][: len(answer)]
            # Either may have a capital, or no blank before it.
            same = "".join(map(chr, there)).strip().lower()
            assert "".join(map(chr, answer)).strip().lower().startswith(same[:3])


def test_pieces_give_the_ids_of_the_whole_with_a_learned_tokenizer(told: Story) -> None:
    """Byte-level BPE, trained on other stories."""
    tokenizer = make_tokenizer("bpe", 600, [story("long-stories-0-5k", index).text for index in range(2)])
    whole = tokenizer.encode(told.text)
    for question in questions(told, tokenizer.encode, length=50):
        right = [*question.context, *question.candidates[question.right]]
        assert any(whole[at : at + len(right)] == right for at in range(len(whole) - len(right) + 1))
