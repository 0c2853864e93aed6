"""A curve in a few numbers: how far a model holds past its training length, and how much context it uses.

rho_L = PPL_L / PPL_T. All of them need the loss at the training length T, and say nothing of lengths that were not
measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]

#: rho_L from which a length counts as lost.
LIMITS = (1.05, 1.5, 2.0)
#: Nats that more context must change the loss by, to count as used.
USED = 0.005


def log_ratios(rows: Sequence[Row], train_length: int) -> dict[int, float]:
    """ln rho_L of each length that has a loss; empty where T has none."""
    losses = {int(row["length"]): float(row["nll"]) for row in rows if row["nll"] is not None}
    at_train = losses.get(train_length)
    if at_train is None or not math.isfinite(at_train):
        return {}
    return {length: losses[length] - at_train for length in sorted(losses)}


def log_auc(ratios: Mapping[int, float], train_length: int) -> float | None:
    """The mean of ln rho_L over the lengths past T; None where there is none. 0 is a model that holds everywhere."""
    beyond = [value for length, value in ratios.items() if length > train_length]
    return sum(beyond) / len(beyond) if beyond else None


def longest_within(ratios: Mapping[int, float], limit: float = LIMITS[0]) -> int | None:
    """The largest length with rho_L <= `limit`; None where there is none."""
    return max((length for length, value in ratios.items() if value <= math.log(limit)), default=None)


def degradation_length(ratios: Mapping[int, float], train_length: int, limit: float) -> int | None:
    """The smallest length past T with rho_L > `limit`, or without a number; None while there is none."""
    lost = (length for length, value in ratios.items() if length > train_length and not value <= math.log(limit))
    return min(lost, default=None)


def context_used(ratios: Mapping[int, float], used: float = USED) -> int | None:
    """c*, the smallest length from which on no further one changes the loss by `used` nats or more; of the same targets
    under nearly whole contexts, as protocol `fixed-target` has them. None where there is no curve.
    """
    lengths = sorted(ratios)
    if not lengths:
        return None
    changed = [longer for shorter, longer in pairwise(lengths) if not abs(ratios[longer] - ratios[shorter]) < used]
    return max(changed, default=lengths[0])


def scores(rows: Sequence[Row], train_length: int) -> dict[str, float]:
    """All of these by name, without those that the curve does not have.

    `log_auc`, `longest_within_1.05`, `degradation_1.05`, `degradation_1.5`, `degradation_2`, `context_used`, and
    `context_gain`, the loss at T less that at the longest length, in nats.
    """
    ratios = log_ratios(rows, train_length)
    found: dict[str, float | None] = {
        "log_auc": log_auc(ratios, train_length),
        f"longest_within_{LIMITS[0]:g}": longest_within(ratios),
        **{f"degradation_{limit:g}": degradation_length(ratios, train_length, limit) for limit in LIMITS},
        "context_used": context_used(ratios),
        "context_gain": -ratios[max(ratios)] if ratios else None,
    }
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
