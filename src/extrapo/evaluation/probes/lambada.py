"""LAMBADA (Paperno et al., 1606.06031): the last word of a passage, which only its whole tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

from extrapo.evaluation.probes.base import PROBES
from extrapo.evaluation.probes.from_file import FileTask, records
from extrapo.evaluation.probes.item import Item
from extrapo.evaluation.probes.likelihood import Likelihood
from extrapo.evaluation.probes.result import Result, wilson
from extrapo.evaluation.units import perplexity


@PROBES.register("lambada")
class Lambada(FileTask):
    """A word counts as right if each of its tokens is the likeliest after those before it; the perplexity is of words.

    Both as lm-evaluation-harness has them. Chance is the share of a model to which all tokens are equally likely.
    """

    name = "lambada"
    form = "lambada_openai.jsonl: a passage and its last word on each line, as `context` and `continuation`, or `text`"

    def questions(self, lines: Sequence[str], limit: int | None) -> list[Item]:
        """One of each line."""
        passages: list[Item] = []
        for record in islice(records(lines), limit):
            if "text" in record:
                context, _, word = record["text"].rpartition(" ")
            else:
                context, word = record["context"], record["continuation"]
            passages.append(Item(*self.ends(context, [word]), right=0))
        return passages

    def results(self, length: int, items: Sequence[Item], found: Sequence[Sequence[Likelihood]]) -> list[Result]:
        """Accuracy and perplexity."""
        words, n = [word for (word,) in found], len(found)
        accuracy = math.fsum(word.greedy for word in words) / n
        chance = math.fsum(float(self.tokenizer.vocab_size) ** -item.answers[0] for item in items) / n
        low, high = wilson(accuracy, n)
        nll = -math.fsum(word.log for word in words) / n
        return [Result(length, accuracy, low, high, n, chance, perplexity=perplexity(nll))]
