"""A curve in a few numbers: how far a model holds past its training length T, and how much context it uses.

rho_L = PPL_L / PPL_T. They say nothing of lengths that were not measured. A length at which a model is not defined has
an infinite loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, TypeAlias

from extrapo.errors import UserError

Row: TypeAlias = Mapping[str, Any]

#: rho_L up to which a model holds.
TOLERANCE = 1.05
#: What `scores` has a degradation length for.
LIMITS = (TOLERANCE, 1.5, 2.0)
#: Nats that more context must change the loss by, to count as used.
USED = 0.005


def past_training(rows: Sequence[Row], train_length: int) -> list[tuple[int, float]]:
    """(length, loss in nats) from T on, by length.

    Raises:
        UserError: the curve has no loss at T.
    """
    points = [(length, loss) for length, loss in _points(rows) if length >= train_length]
    if not points or points[0][0] != train_length:
        raise UserError(f"the curve has no length {train_length:,}, the training length")
    return points


def mean_nll(rows: Sequence[Row], train_length: int) -> float:
    """The mean of the loss over the measured lengths from T on, in nats. Lengths are meant to be a geometric grid, as
    T, 2T, 4T ... are.
    """
    return fmean(loss for _, loss in past_training(rows, train_length))


def log_auc(rows: Sequence[Row], train_length: int) -> float:
    """The mean of ln rho_L over the same lengths, T included: 0 is a model that holds everywhere, whatever its loss."""
    (_, at_training), *_ = past_training(rows, train_length)
    return mean_nll(rows, train_length) - at_training if math.isfinite(at_training) else math.inf


def degradation_length(rows: Sequence[Row], train_length: int, limit: float = TOLERANCE) -> float:
    """The length in tokens up to which rho stays within `limit`.

    Between measured lengths the loss is taken as linear in log2 of the length; the longest length if it holds.
    """
    points = past_training(rows, train_length)
    most = points[0][1] + math.log(limit)
    for (a, x), (b, y) in pairwise(points):
        if not y <= most:
            share = (most - x) / (y - x) if math.isfinite(y) else 0.0
            return float(a * (b / a) ** share)
    return float(points[-1][0])


def longest_within(rows: Sequence[Row], train_length: int, limit: float = TOLERANCE) -> float:
    """The largest measured length with rho_L <= `limit`, though some before it may be above."""
    points = past_training(rows, train_length)
    return float(
        max(length for length, loss in points if length == train_length or loss <= points[0][1] + math.log(limit))
    )


def context_gain(rows: Sequence[Row], train_length: int) -> float:
    """The loss at T less that at the longest length, in nats: what all the context past T is worth. Of the same targets
    under nearly whole contexts, as protocol `fixed-target` has them, it is a gain by context and by nothing else.
    """
    points = past_training(rows, train_length)
    return points[0][1] - points[-1][1]


def context_used(rows: Sequence[Row], used: float = USED) -> float:
    """c*, the smallest length after which no further one changes the loss by `used` nats; see context_gain."""
    points = _points(rows)
    changed = [length for (_, x), (length, y) in pairwise(points) if not abs(y - x) < used]
    return float(max(changed, default=points[0][0]))


def scores(rows: Sequence[Row], train_length: int) -> dict[str, float]:
    """All of these by name, those that are finite; none where the curve has no loss at T.

    `mean_nll`, `log_auc`, `degradation_1.05`, `degradation_1.5`, `degradation_2`, `longest_within_1.05`,
    `context_gain` and `context_used`.
    """
    if not any(row["length"] == train_length and row["nll"] is not None for row in rows):
        return {}
    found = {
        "mean_nll": mean_nll(rows, train_length),
        "log_auc": log_auc(rows, train_length),
        **{f"degradation_{limit:g}": degradation_length(rows, train_length, limit) for limit in LIMITS},
        f"longest_within_{TOLERANCE:g}": longest_within(rows, train_length),
        "context_gain": context_gain(rows, train_length),
        "context_used": context_used(rows),
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _points(rows: Sequence[Row]) -> list[tuple[int, float]]:
    return sorted((int(row["length"]), math.inf if row["nll"] is None else float(row["nll"])) for row in rows)
