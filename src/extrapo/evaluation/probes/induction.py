"""Induction (Olsson et al., 2209.11895): random tokens, then one of them again, and what followed it is asked for.

No words, and so no knowledge of a language: a model can only look. `copy` asks after a whole stretch that is repeated,
which tells where it stands by many tokens instead of one.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError
from extrapo.evaluation.probes.base import PROBES, Probe
from extrapo.evaluation.probes.item import Item


@PROBES.register("induction")
class Induction(Probe):
    """Tokens of the vocabulary but for the separator, drawn evenly. The last `cue` of the text stand in it once before,
    and the choice is between what followed and nine other tokens of the text.

    The place is where that is: 0 at the beginning of the text, 1 right before its end.
    """

    name: ClassVar[str] = "induction"
    #: Tokens that are repeated before the answer.
    cue: ClassVar[int] = 1
    #: Answers to choose from.
    answers: ClassVar[int] = 10

    def item(self, length: int, place: float, generator: np.random.Generator) -> Item:
        least = 2 * self.cue + self.answers
        if length < least:
            raise UserError(f"probe '{self.name}' needs a length of at least {least} tokens, not {length}")
        text, start = self._text(length - self.cue, place, generator)
        cue, follows = text[start : start + self.cue], text[start + self.cue]
        others = np.setdiff1d(text, [*cue, follows])
        if len(others) < self.answers - 1:
            raise UserError(f"probe '{self.name}' needs more than {len(others)} tokens to choose from")
        choice = [follows, *generator.choice(others, size=self.answers - 1, replace=False)]
        order = generator.permutation(self.answers)
        texts = [np.concatenate([text, cue, [choice[i]]]).astype(np.int64) for i in order]
        return Item(texts, [1] * self.answers, int(np.argmin(order)), place)

    def _text(self, count: int, place: float, generator: np.random.Generator) -> tuple[NDArray[np.int64], int]:
        """So many tokens, and where in them the cue begins, which they hold once."""
        vocabulary = np.setdiff1d(np.arange(self.tokenizer.vocab_size), [self.tokenizer.separator])
        # Each once before any comes again: what many tokens are found by is then unique.
        rounds = [generator.permutation(vocabulary) for _ in range(-(-count // len(vocabulary)))]
        text = np.concatenate(rounds)[:count]
        start = round(place * (count - self.cue - 1))
        if self.cue == 1:
            again = np.flatnonzero(text == text[start])
            again = again[again != start]
            text[again] = generator.choice(np.setdiff1d(vocabulary, [text[start]]), size=len(again))
        return text, start


@PROBES.register("copy")
class Copy(Induction):
    """Of sixteen tokens that are repeated, what followed them."""

    name = "copy"
    cue = 16
