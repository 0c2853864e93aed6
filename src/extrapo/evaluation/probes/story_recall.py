"""Recall in stories: what a long story said once and needs again, by how many tokens back it said so.

The stories are those of `extrapo.data.stories`: whose fact is asked for stands right before the answer, the answer
itself far back, and answers to other questions of the kind in between. So who has forgotten comes to chance, and who
takes what was said last is seldom right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from extrapo.config import ProbeSettings
from extrapo.data.stories import VALIDATION, PlacedQuestion, placed_questions, story
from extrapo.errors import UserError
from extrapo.evaluation.probes.base import PROBES, Task, questions_wanted
from extrapo.evaluation.probes.item import Item, Vocabulary
from extrapo.evaluation.probes.likelihood import Likelihood
from extrapo.evaluation.probes.result import Result, measured

PRESET = "long-stories"
#: Questions to choose from for each that is asked, so that far distances are among them.
CHOICE = 8
#: Distances up to here are one bin, and each further bin goes to twice as far.
NEAREST = 64


@PROBES.register("story-recall")
class StoryRecall(Task):
    """Which of the answers of the kind that a story has given so far is the one that it needs again.

    Held-out stories, cut from the left so that no answer makes a text longer than the length; of them the questions
    whose answer was last said within what is left. They are spread evenly over the distances that there are. The
    answer given is the one of the lowest mean loss per token: one that knows nothing does not prefer short ones, and
    comes to chance exactly, which is the mean of one over the number of answers.

    Args:
        tokenizer: the model's, whatever it is.
        seed: of the stories and of the choice among their questions.
        stories: how many are told at most.
    """

    def __init__(self, tokenizer: Vocabulary, seed: int = 0, stories: int = 64) -> None:
        super().__init__(tokenizer)
        self.seed, self.stories = seed, stories
        self._told: list[Told] = []

    @classmethod
    def asked(cls, tokenizer: Vocabulary, settings: ProbeSettings) -> Sequence[Self]:
        return [cls(tokenizer, settings.seed)]

    def lengths(self, usual: Sequence[int]) -> list[int]:
        return [length for length in usual if next(self._seen(length), None) is not None]

    def items(self, length: int, settings: ProbeSettings) -> list[Item]:
        """As many as `settings.items`, or all that there are."""
        wanted = questions_wanted(settings)
        by_distance: dict[range, list[tuple[Told, PlacedQuestion]]] = {}
        for told, question in islice(self._seen(length), CHOICE * wanted):
            by_distance.setdefault(distances(question.distance, length), []).append((told, question))
        if not by_distance:
            longest = max(len(told.ids) for told in self._told)
            raise UserError(
                f"probe 'story-recall' has no question at a length of {length} tokens: with this tokenizer, what its "
                f"stories said comes back later than that, or they end before, the longest at {longest:,}"
            )
        generator = np.random.default_rng((self.seed, length))
        mixed = [[found[i] for i in generator.permutation(len(found))] for found in by_distance.values()]
        in_turn = (one for turn in zip_longest(*mixed) for one in turn if one is not None)
        return [_item(told.ids, question, length) for told, question in islice(in_turn, wanted)]

    def results(self, length: int, items: Sequence[Item], found: Sequence[Sequence[Likelihood]]) -> list[Result]:
        """One for each range of distances, the near ones first."""
        by_distance: dict[range, list[int]] = {}
        for number, item in enumerate(items):
            by_distance.setdefault(distances(item.distance or 0, length), []).append(number)
        results = []
        for these, numbers in sorted(by_distance.items(), key=lambda one: one[0].start):
            asked, likely = [items[i] for i in numbers], [found[i] for i in numbers]
            variant = {"distance": f"{these.start}-{these.stop - 1}"}
            result = measured(asked, likely, length=length, variant=variant, divide_by="tokens")
            loss = -math.fsum(of_item[item.right].log for item, of_item in zip(asked, likely, strict=True))
            results.append(replace(result, nll=loss / sum(item.answers[item.right] for item in asked)))
        return results

    def _seen(self, length: int) -> Iterator[tuple[Told, PlacedQuestion]]:
        """The questions whose context has so many tokens and tells the answer, and their stories."""
        for number in range(self.stories):
            if number == len(self._told):
                made = story(PRESET, VALIDATION + number, seed=self.seed)
                ids, questions = placed_questions(made, self.tokenizer.encode)
                # A tokenizer that leaves out what it does not know may leave nothing of an answer.
                whole = [question for question in questions if all(question.candidates)]
                self._told.append(Told(np.array(ids, dtype=np.int64), whole))
            told = self._told[number]
            for question in told.questions:
                if question.reach <= _room(question, length) <= question.at:
                    yield told, question


class Told(NamedTuple):
    """A story as token ids, and its questions."""

    ids: NDArray[np.int64]
    questions: Sequence[PlacedQuestion]


def distances(distance: int, length: int) -> range:
    """Those that a distance is counted with: up to 64, 65 to 128, 129 to 256 and so on, at most the length."""
    farthest = max(NEAREST, 1 << (distance - 1).bit_length())
    return range(1 if farthest == NEAREST else farthest // 2 + 1, min(farthest, length) + 1)


def _room(question: PlacedQuestion, length: int) -> int:
    """Tokens of the context, the same for all answers: a model that reads all but the last of a text sees no more than
    `length`.
    """
    return length + 1 - max(map(len, question.candidates))


def _item(ids: NDArray[np.int64], question: PlacedQuestion, length: int) -> Item:
    context = ids[question.at - _room(question, length) : question.at]
    texts = [np.concatenate([context, np.array(answer, dtype=np.int64)]) for answer in question.candidates]
    sizes = [len(answer) for answer in question.candidates]
    return Item(texts, sizes, question.right, distance=question.distance, sizes={"tokens": sizes})
