"""What a model's answers come to: accuracy, how sure it is (Wilson, 1927), and by place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from extrapo.evaluation.probes.item import Item
from extrapo.evaluation.probes.likelihood import Likelihood


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
        variant: what tells this result from others of the same length: `{"keys": 10}`, `{"score": "acc_norm"}`.
        perplexity: of the right answers, where the task asks for it.
        nll: mean loss of the right answers' tokens in nats, where the task asks for it.
        note: why there is no accuracy.
    """

    length: int
    accuracy: float | None
    low: float | None
    high: float | None
    n: int
    chance: float
    places: Sequence[tuple[float, float, int]] = ()
    variant: Mapping[str, Any] = field(default_factory=dict)
    perplexity: float | None = None
    nll: float | None = None
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """As a plain dict: the variant's names among the others; perplexity, loss and note only where there are."""
        plain = {name: value for name, value in vars(self).items() if name != "variant"}
        row = {"length": self.length, **self.variant, **plain, "places": [list(place) for place in self.places]}
        return {
            name: value for name, value in row.items() if value is not None or name not in ("perplexity", "nll", "note")
        }


def variant_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a row from others of its length."""
    return {name: value for name, value in row.items() if name not in Result.__dataclass_fields__}


def measured(
    items: Sequence[Item],
    found: Sequence[Sequence[Likelihood]],
    *,
    length: int,
    variant: Mapping[str, Any],
    divide_by: str | None = None,
    chance: float | None = None,
) -> Result:
    """The result of these likelihoods of the answers to each item.

    Args:
        items: N questions of C answers.
        found: (N, C) the likelihoods.
        length: tokens that the model sees at once.
        variant: see Result.
        divide_by: one of the items' sizes; the answer with the largest quotient is given. None: the likeliest is.
        chance: the accuracy of a model that knows nothing [1 / C].
    """
    right = [share_right(item, likely, divide_by) for item, likely in zip(items, found, strict=True)]
    n, accuracy = len(right), math.fsum(right) / len(right)
    chance = math.fsum(1 / len(item.texts) for item in items) / n if chance is None else chance
    return Result(length, accuracy, *wilson(accuracy, n), n, chance, _by_place(items, right), variant)


def share_right(item: Item, found: Sequence[Likelihood], divide_by: str | None = None) -> float:
    """1, 0, or the share of the right answer among those that tie."""
    sizes = item.sizes[divide_by] if divide_by else [1.0] * len(found)
    # What is not a number is no likelihood.
    likely = [-math.inf if math.isnan(one.log) else one.log / size for one, size in zip(found, sizes, strict=True)]
    best = max(likely)
    # Sums in another order differ in their last digits.
    ties = [one >= best - 1e-5 * (1 + abs(best)) for one in likely]
    return ties[item.right] / sum(ties)


def _by_place(items: Sequence[Item], right: Sequence[float]) -> list[tuple[float, float, int]]:
    of_place: dict[float, list[float]] = {}
    for item, share in zip(items, right, strict=True):
        if item.place is not None:
            of_place.setdefault(item.place, []).append(share)
    return [(place, math.fsum(shares) / len(shares), len(shares)) for place, shares in sorted(of_place.items())]


def wilson(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of n (1927)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and 1 the last digits may be on the other side.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
