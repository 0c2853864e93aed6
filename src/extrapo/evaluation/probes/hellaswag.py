"""HellaSwag (Zellers et al., 1905.07830): which of four endings goes on from a text.

Four scores of the same likelihoods, since two numbers called HellaSwag need not be the same quantity:

    completion  the ending whose mean loss per token is lowest, as in the code of Cable and of nanoGPT's kin; the text
                without the name of the activity, and without any change
    acc         the likeliest ending, as lm-evaluation-harness has it, which changes the text a little (`harness_text`)
    acc_norm    of these, the likelihood divided by the characters of the ending
    acc_bytes   by its bytes
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from extrapo.evaluation.probes.base import PROBES
from extrapo.evaluation.probes.from_file import FileTask, records
from extrapo.evaluation.probes.item import Item
from extrapo.evaluation.probes.likelihood import Likelihood
from extrapo.evaluation.probes.result import Result, measured

#: Score -> what the likelihood of an ending is divided by.
SCORES = {"completion": "tokens", "acc": None, "acc_norm": "characters", "acc_bytes": "bytes"}
#: Lines of a question in a text file.
LINES = 6


class Question(NamedTuple):
    """What is gone on from, and the endings, as Cable's code and as the harness read them."""

    plain: tuple[str, list[str]]
    harness: tuple[str, list[str]]
    right: int


@PROBES.register("hellaswag")
class HellaSwag(FileTask):
    """All questions of the validation split, or those that the file has.

    The file is hellaswag_val.jsonl as its authors have it, or a text of six lines a question: `activity: text`, which
    ending is right (0 to 3), four endings. In that one, marks in brackets are gone already.
    """

    name = "hellaswag"
    form = "hellaswag_val.jsonl, or of six lines a question: activity and text, which is right, four endings"

    def questions(self, lines: Sequence[str], limit: int | None) -> list[Item]:
        """First all questions as the one reads them, then as the other does."""
        asked = list(islice(from_jsonl(lines) if lines[0].startswith("{") else from_text(lines), limit))
        return [*map(self._completion, asked), *map(self._harness, asked)]

    def _completion(self, question: Question) -> Item:
        context, endings = question.plain
        before = self.tokenizer.encode(context)
        answers = [self.tokenizer.encode(f" {ending}") for ending in endings]
        texts = [np.array([*before, *answer], dtype=np.int64) for answer in answers]
        sizes = [len(answer) for answer in answers]
        return Item(texts, sizes, question.right, sizes={"tokens": sizes})

    def _harness(self, question: Question) -> Item:
        context, endings = question.harness
        texts, sizes = self.ends(context, endings)
        # An ending of nothing but marks has no characters left.
        characters, size = [max(1, len(one)) for one in endings], [max(1, len(one.encode())) for one in endings]
        return Item(texts, sizes, question.right, sizes={"characters": characters, "bytes": size})

    def results(self, length: int, items: Sequence[Item], found: Sequence[Sequence[Likelihood]]) -> list[Result]:
        """One for each score."""
        half = len(items) // 2
        results = []
        for score, divide_by in SCORES.items():
            part = slice(0, half) if score == "completion" else slice(half, None)
            variant = {"score": score}
            results.append(measured(items[part], found[part], length=length, variant=variant, divide_by=divide_by))
        return results


def from_jsonl(lines: Sequence[str]) -> Iterator[Question]:
    """The questions of the authors' file."""
    for record in records(lines):
        endings = [str(ending) for ending in record["endings"]]
        text = f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}"
        harness = harness_text(text), [harness_text(ending) for ending in endings]
        yield Question((record["ctx"], endings), harness, right_of(record["label"], endings))


def from_text(lines: Sequence[str]) -> Iterator[Question]:
    """The questions of a file of six lines each."""
    if len(lines) % LINES:
        raise ValueError(f"{len(lines):,} lines are not {LINES} for each question")
    for start in range(0, len(lines), LINES):
        text, right, *endings = lines[start : start + LINES]
        _, plain = text.split(": ", 1)
        yield Question((plain, endings), (text, endings), right_of(right, endings))


def right_of(label: str | int, endings: Sequence[str]) -> int:
    """Which ending is right; ValueError if there is no such one, or are not four."""
    right = int(label)
    if len(endings) != 4 or not 0 <= right < 4:
        raise ValueError(f"ending {right} of {len(endings)}")
    return right


def harness_text(text: str) -> str:
    """A text as lm-evaluation-harness's task changes it: WikiHow's marks in brackets go."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")
