"""What a run is judged by: perplexity or loss at a length, area under the curve, degradation length, speed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from extrapo.errors import UserError, unknown

Row: TypeAlias = Mapping[str, Any]
Direction: TypeAlias = Literal["minimize", "maximize"]

#: Perplexity may grow by this factor over its value at T before the model counts as degraded.
TOLERANCE = 1.05


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Args:
        curve: one row per length: `length`, `nll`, `ppl` (None where the model is not defined).
        train_length: T.
        tokens_per_second: of training.
    """

    curve: Sequence[Row]
    train_length: int
    tokens_per_second: float


@dataclass(frozen=True)
class Objective:
    """A number that a sweep asks for.

    Args:
        name: as the YAML names it.
        direction: whether small or large is good.
        value: from the outcome of a run; infinite where the model is not defined at the length.
        factor, length: the length that it reads, as a multiple of T or in tokens, if it reads one.
    """

    name: str
    direction: Direction
    value: Callable[[Outcome], float]
    factor: int | None = None
    length: int | None = None

    def lengths(self, train_length: int) -> list[int]:
        """Evaluation lengths that it needs."""
        if self.factor is not None:
            return [self.factor * train_length]
        return [train_length] if self.length is None else [self.length]


def at(outcome: Outcome, length: int, column: str) -> float:
    """The curve's value at a length; infinite where the model is not defined there."""
    for row in outcome.curve:
        if row["length"] == length:
            return math.inf if row[column] is None else float(row[column])
    raise UserError(f"the curve has no length {length:,}")


def log_auc(outcome: Outcome) -> float:
    """Area under the loss from T to the longest length over log2 of the length, per doubling: a mean in nats.

    The trapezoidal rule between the measured lengths; the loss at T where no longer length was measured.
    """
    points = _past_training(outcome)
    if len(points) == 1:
        return points[0][1]
    area = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points))
    return area / (points[-1][0] - points[0][0])


def degradation_length(outcome: Outcome) -> float:
    """The length in tokens up to which perplexity stays within 5% of its value at T.

    Between measured lengths the loss is taken as linear in log2 of the length; the longest length if it holds.
    """
    points = _past_training(outcome)
    limit = points[0][1] + math.log(TOLERANCE)
    for (a, x), (b, y) in pairwise(points):
        if y > limit:
            share = (limit - x) / (y - x) if math.isfinite(y) else 0.0
            return float(2 ** (a + share * (b - a)))
    return float(2 ** points[-1][0])


def _past_training(outcome: Outcome) -> list[tuple[float, float]]:
    """(log2 length, loss) from T on."""
    points = sorted(
        (math.log2(row["length"]), math.inf if row["nll"] is None else float(row["nll"]))
        for row in outcome.curve
        if row["length"] >= outcome.train_length
    )
    if not points or points[0][0] != math.log2(outcome.train_length):
        raise UserError(f"the curve has no length {outcome.train_length:,}, the training length")
    return points


NAMED: dict[str, tuple[Direction, Callable[[Outcome], float]]] = {
    "log-auc": ("minimize", log_auc),
    "degradation-length": ("maximize", degradation_length),
    "tokens-per-second": ("maximize", lambda outcome: outcome.tokens_per_second),
}


def objective(name: str) -> Objective:
    """The objective of a name: `ppl@16T`, `nll@4096`, `log-auc`, `degradation-length`, `tokens-per-second`.

    Raises:
        UserError: no such objective.
    """
    if name in NAMED:
        direction, value = NAMED[name]
        return Objective(name, direction, value)
    match = re.fullmatch(r"(ppl|nll)@(\d+)(T?)", name)
    if match is None or int(match[2]) < 1:
        raise unknown("objective", name, ["ppl@16T", "nll@16T", "ppl@4096", *NAMED])
    column, number = match[1], int(match[2])
    if match[3]:
        return Objective(
            name, "minimize", lambda outcome: at(outcome, number * outcome.train_length, column), factor=number
        )
    return Objective(name, "minimize", lambda outcome: at(outcome, number, column), length=number)
