"""Numbers in filler: what passkey and recall hide, and what they hide it in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extrapo.evaluation.probes.item import Vocabulary

FILLER = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


class Numbers:
    """Numbers of five digits that the tokenizer cuts into equally many tokens.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Vocabulary) -> None:
        self._tokens = {number: tokenizer.encode(f" {number}") for number in range(10_000, 100_000, 7)}
        sizes = [len(tokens) for tokens in self._tokens.values()]
        #: tokens of each, with the space before it.
        self.size = max(set(sizes), key=sizes.count)
        self._choice = [number for number, tokens in self._tokens.items() if len(tokens) == self.size]

    def draw(self, count: int, generator: np.random.Generator) -> list[int]:
        """So many different ones."""
        return [int(number) for number in generator.choice(self._choice, size=count, replace=False)]

    def after(self, asked: NDArray[np.int64], numbers: Sequence[int]) -> list[NDArray[np.int64]]:
        """A text that ends in each of these."""
        return [np.concatenate([asked, self._tokens[number]]).astype(np.int64) for number in numbers]


class Filler:
    """Sentences that say nothing, over and over.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Vocabulary) -> None:
        self._tokens = np.array(tokenizer.encode(FILLER), dtype=np.int64)

    def around(self, hidden: Sequence[tuple[float, Sequence[int]]], room: int) -> NDArray[np.int64]:
        """`room` tokens of filler, and in them what is hidden, each at its place from 0, the beginning, to 1."""
        filler = np.resize(self._tokens, room)
        parts: list[NDArray[np.int64]] = []
        begin = 0
        for place, tokens in sorted(hidden, key=lambda one: one[0]):
            end = round(place * room)
            parts += [filler[begin:end], np.asarray(tokens, dtype=np.int64)]
            begin = end
        return np.concatenate([*parts, filler[begin:]])
