"""What a probe is: questions with one right answer among several, of which a model gives the most likely one.

By likelihood, not by generation: so a small model, or one that was never taught to answer, can be measured as well.
Where answers tie, each counts as given equally often: a model that knows nothing comes to chance exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.batches import BATCH_TOKENS
from extrapo.registry import Registry

#: (B, T) tokens and n -> (B, n, V) log-probabilities of what follows each of the last n.
NextTokens = Callable[[Tensor, int], Tensor]

#: Called with (length, items done, items).
Progress = Callable[[int, int, int], None]


class Vocabulary(Protocol):
    """What a probe needs of a tokenizer, see `extrapo.data.Tokenizer`."""

    vocab_size: int
    separator: int

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without separators."""


class Item(NamedTuple):
    """A question with C possible answers.

    Args:
        texts: (C, L + 1) token ids, alike but for the answer at their end.
        answer: tokens of each answer.
        right: which of the C it is.
        place: where the model has to look, from 0, the far end of the text, to 1.
    """

    texts: NDArray[np.int64]
    answer: int
    right: int
    place: float


@dataclass(frozen=True)
class Result:
    """How often a model is right at one length.

    Args:
        length: tokens that it sees at once.
        accuracy: share of right answers; None where the model is not defined at this length.
        low, high: Wilson's interval of it, at 95%.
        n: items.
        chance: the accuracy of one that knows nothing.
        places: the accuracy by place, (place, accuracy, items) each.
        note: why there is no accuracy.
    """

    length: int
    accuracy: float | None
    low: float | None
    high: float | None
    n: int
    chance: float
    places: Sequence[tuple[float, float, int]] = ()
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """As a plain dict; `note` only where there is one."""
        row = {**vars(self), "places": [list(place) for place in self.places]}
        if self.note is None:
            del row["note"]
        return row


class Probe(ABC):
    """A task whose items can be made at any length.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Vocabulary) -> None:
        self.tokenizer = tokenizer

    @abstractmethod
    def item(self, length: int, place: float, generator: np.random.Generator) -> Item:
        """An item that is `length` + 1 tokens long.

        Raises:
            UserError: too short for what it has to hold.
        """

    @final
    def fits(self, length: int) -> bool:
        """Whether an item can be that long."""
        try:
            self.item(length, 0.5, np.random.default_rng(0))
        except UserError:
            return False
        return True


#: Name -> probe.
PROBES: Registry[Probe] = Registry("probe", "extrapo.probes")


@torch.no_grad()
def run_probe(
    probe: Probe,
    model: NextTokens,
    lengths: Sequence[int],
    *,
    items: int = 100,
    places: int = 10,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> list[Result]:
    """How often the model is right at each length, on the same questions whatever the size of a batch.

    Args:
        probe: the task.
        model: what it is put to.
        lengths: in tokens.
        items: questions at each length.
        places: where the model has to look: at so many places, evenly from the far end of the text to the near one.
        seed: of the questions.
        device: where the model is.
        batch_tokens: tokens in one forward pass.
        progress: called after each batch.

    Raises:
        UserError: a length that is too short.
    """
    results = []
    for length in lengths:
        generator = np.random.default_rng((seed, length))
        asked = [probe.item(length, (i % places) / max(1, places - 1), generator) for i in range(items)]
        chance = 1 / len(asked[0].texts)
        try:
            right: list[float] = []
            for batch in _batches(asked, max(1, batch_tokens // length)):
                right += _shares(batch, model, device)
                if progress is not None:
                    progress(length, len(right), items)
        except NotApplicable as why:
            results.append(Result(length, None, None, None, 0, chance, note=str(why)))
            continue
        accuracy = math.fsum(right) / items
        results.append(Result(length, accuracy, *wilson(accuracy, items), items, chance, _by_place(asked, right)))
    return results


def _batches(asked: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(asked), size):
        yield asked[start : start + size]


def _shares(batch: Sequence[Item], model: NextTokens, device: torch.device | str) -> list[float]:
    """Of each item 1, 0, or the share of the right answer among those that tie."""
    answer = batch[0].answer
    texts = torch.from_numpy(np.concatenate([item.texts for item in batch])).to(device)
    # Answers of one token differ in what is asked for alone, not in what the model sees.
    seen, row = torch.unique(texts[:, :-1], dim=0, return_inverse=True)
    follows = model(seen, answer).float()[row]
    likely = follows.gather(-1, texts[:, -answer:].unsqueeze(-1)).squeeze(-1).sum(-1)
    likely = likely.view(len(batch), -1).cpu()
    best = likely.max(dim=1, keepdim=True).values
    # Sums in another order differ in their last digits.
    ties = likely >= best - 1e-5 * (1 + best.abs())
    right = ties[torch.arange(len(batch)), [item.right for item in batch]]
    shares: list[float] = (right.double() / ties.sum(1)).tolist()
    return shares


def _by_place(asked: Sequence[Item], right: Sequence[float]) -> list[tuple[float, float, int]]:
    of_place: dict[float, list[float]] = {}
    for item, share in zip(asked, right, strict=True):
        of_place.setdefault(item.place, []).append(share)
    return [(place, math.fsum(found) / len(found), len(found)) for place, found in sorted(of_place.items())]


def wilson(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of n (1927)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
