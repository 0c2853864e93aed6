"""Recall in stories: the answer stands as far back as is said, and models built to know it, or nothing, score so."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from extrapo.config import ProbeSettings
from extrapo.data.stories import VALIDATION, placed_questions, stories
from extrapo.data.tokenizer import ByteTokenizer, Tokenizer
from extrapo.data.vocabularies import make_tokenizer
from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.probes import Item, NextTokens, Result, StoryRecall, run_probe
from extrapo.evaluation.probes.story_recall import distances

TOKENIZERS: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(),
    "bpe": make_tokenizer("bpe", 600, [one.text for one in stories("tiny-stories-like", 40)]),
}
STORIES = 16
PROBES = {name: StoryRecall(tokenizer, stories=STORIES) for name, tokenizer in TOKENIZERS.items()}
LENGTHS = [512, 2048]
ITEMS = 24


def ask(name: str, model: NextTokens, **settings: int) -> list[Result]:
    return run_probe([PROBES[name]], model, LENGTHS, ProbeSettings(items=ITEMS, **settings))


def uniform(tokens: Tensor, last: int) -> Tensor:
    return torch.zeros(len(tokens), last, 600).log_softmax(-1)


def reader(tokenizer: Tokenizer) -> NextTokens:
    """A model that has read the stories, and knows what stands behind the last tokens of what is asked."""
    answers: dict[bytes, int] = {}
    for told in stories("long-stories", STORIES, start=VALIDATION):
        ids, questions = placed_questions(told, tokenizer.encode)
        for question in questions:
            text = np.array([*ids[: question.at][-SHOWN:], *question.candidates[question.right]], dtype=np.int64)
            for end in range(len(text) - len(question.candidates[question.right]), len(text)):
                answers[text[:end][-SHOWN:].tobytes()] = int(text[end])

    def model(tokens: Tensor, last: int) -> Tensor:
        likely = torch.zeros(len(tokens), last, 600)
        for row, read in enumerate(tokens.numpy()):
            for back in range(last):
                follows = answers.get(read[: len(read) - last + back + 1][-SHOWN:].tobytes())
                if follows is not None:
                    likely[row, back, follows] = 30.0
        return likely.log_softmax(-1)

    return model


#: Tokens that tell a place in the stories.
SHOWN = 120


def items(name: str) -> list[Item]:
    return [item for length in LENGTHS for item in PROBES[name].items(length, ProbeSettings(items=ITEMS))]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_who_knows_nothing_comes_to_chance_exactly(name: str) -> None:
    results = ask(name, uniform)
    assert len(results) > 3
    for result in results:
        assert result.accuracy == pytest.approx(result.chance, abs=1e-9)
        assert result.nll == pytest.approx(math.log(600), rel=1e-6)
    chances = [1 / len(item.texts) for item in items(name)]
    assert sum(result.chance * result.n for result in results) == pytest.approx(sum(chances))
    assert 0.05 < np.mean(chances) < 0.34


@pytest.mark.parametrize("name", TOKENIZERS)
def test_who_has_read_the_stories_is_always_right(name: str) -> None:
    for result in ask(name, reader(TOKENIZERS[name])):
        assert result.accuracy == 1
        assert result.nll == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_answer_stands_where_the_distance_says_and_nowhere_later(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    for item in items(name):
        text, size = item.texts[item.right], item.answers[item.right]
        assert item.distance is not None
        context, answer = text[:-size], tokenizer.decode(text[-size:].tolist()).strip().lower()
        after = tokenizer.decode(context[len(context) - item.distance :].tolist()).lower()
        assert after.strip().startswith(answer)
        # Once more only within another word, such as corn in acorn.
        assert len(f" {after} ".split(f" {answer} ")) <= 2
        # All answers follow the same text, and none makes it longer than the length.
        contexts = {one[: len(one) - end].tobytes() for one, end in zip(item.texts, item.answers, strict=True)}
        assert len(contexts) == 1
        assert max(map(len, item.texts)) - 1 in LENGTHS
        # Other answers of the kind are said as well.
        said = [tokenizer.decode(one[-end:].tolist()) for one, end in zip(item.texts, item.answers, strict=True)]
        assert len(set(said)) == len(item.texts) >= 3


@pytest.mark.parametrize("name", TOKENIZERS)
def test_questions_are_spread_over_distances(name: str) -> None:
    results = [result for result in ask(name, uniform) if result.length == 2048]
    ends = [list(map(int, result.variant["distance"].split("-"))) for result in results]
    assert ends[-1] == [1025, 2048]
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(ends))
    assert sum(result.n for result in results) == ITEMS
    counts = sorted(result.n for result in results)[1:]
    assert max(counts) - min(counts) <= 1, "but for the nearest, of which there are few"


def test_distances() -> None:
    assert distances(1, 512) == distances(64, 512) == range(1, 65)
    assert distances(65, 512) == distances(128, 512) == range(65, 129)
    assert distances(300, 400) == range(257, 401)
    assert distances(9, 32) == range(1, 33)


def test_results_do_not_depend_on_the_size_of_a_batch() -> None:
    table = torch.randn(600, 600, generator=torch.Generator().manual_seed(0))

    def model(tokens: Tensor, last: int) -> Tensor:
        return table[tokens[:, -last:]].log_softmax(-1)

    first, *others = (ask("bpe", model, batch_tokens=size) for size in (10**6, 7 * 2048, 1))
    assert all(other == first for other in others)
    assert len({result.accuracy for result in first}) > 1


def test_the_seed_makes_other_questions_and_the_same_one_the_same() -> None:
    one, again, other = (
        StoryRecall(TOKENIZERS["bpe"], seed).items(2048, ProbeSettings(items=3))[0].texts[0].tobytes()
        for seed in (0, 0, 1)
    )
    assert one == again != other


def test_lengths_without_a_question() -> None:
    probe = PROBES["byte"]
    assert probe.lengths([32, 64, 512, 2048, 10**6]) == LENGTHS
    with pytest.raises(UserError, match=r"no question at a length of 32 tokens: with this .* the longest at \d+,\d+"):
        probe.items(32, ProbeSettings())
    with pytest.raises(UserError, match="`items` is a number of questions for this task, not 'a/file'"):
        probe.items(512, ProbeSettings(items="a/file"))


def test_a_length_that_the_model_does_not_have_is_one_row_with_a_note() -> None:
    def model(tokens: Tensor, last: int) -> Tensor:
        if tokens.size(1) > 600:
            raise NotApplicable("a table of 600")
        return uniform(tokens, last)

    *within, past = ask("byte", model)
    assert {result.length for result in within} == {512}
    assert (past.length, past.accuracy, past.note, past.nll) == (2048, None, "a table of 600", None)


def test_a_tokenizer_that_knows_few_words_leaves_questions_out() -> None:
    class Few:
        vocab_size, separator = 600, 0

        def encode(self, text: str) -> list[int]:
            return [len(word) for word in text.split() if len(word) != 6]

    probe = StoryRecall(Few(), stories=STORIES)
    found = probe.items(512, ProbeSettings(items=8))
    assert all(size > 0 for item in found for size in item.answers)
    # What is spelled alike cannot be told apart: it ties.
    for result in run_probe([probe], uniform, [512], ProbeSettings(items=8)):
        assert result.accuracy == pytest.approx(result.chance)
