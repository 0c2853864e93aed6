"""A question: what a model reads, the answers that it chooses from, and which of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Vocabulary(Protocol):
    """What a task needs of a tokenizer, see `extrapo.data.Tokenizer`."""

    vocab_size: int
    separator: int

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without separators."""


class Item(NamedTuple):
    """A question with C possible answers, or with one.

    Args:
        texts: C times token ids, what is asked and an answer at the end of it.
        answers: (C,) tokens of each answer.
        right: which of the C it is.
        place: where the model has to look, from 0, the far end of the text, to 1; None where nobody knows.
        distance: how many tokens back from the answer the model has to look; None where nobody knows.
        sizes: (C,) by name: what a score divides the likelihood of each answer by.
    """

    texts: Sequence[NDArray[np.int64]]
    answers: Sequence[int]
    right: int
    place: float | None = None
    distance: int | None = None
    sizes: Mapping[str, Sequence[float]] = {}
