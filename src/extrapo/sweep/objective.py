"""What a run is judged by: perplexity or loss at a length, area under the curve, degradation length, speed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from extrapo.errors import UserError, unknown
from extrapo.evaluation import scores

Row: TypeAlias = Mapping[str, Any]
Direction: TypeAlias = Literal["minimize", "maximize"]


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


def _scored(score: Callable[[Sequence[Row], int], float]) -> Callable[[Outcome], float]:
    return lambda outcome: score(outcome.curve, outcome.train_length)


#: See `evaluation.scores`.
NAMED: dict[str, tuple[Direction, Callable[[Outcome], float]]] = {
    "mean-nll": ("minimize", _scored(scores.mean_nll)),
    "log-auc": ("minimize", _scored(scores.log_auc)),
    "degradation-length": ("maximize", _scored(scores.degradation_length)),
    "longest-within": ("maximize", _scored(scores.longest_within)),
    "context-gain": ("maximize", _scored(scores.context_gain)),
    "context-used": ("maximize", lambda outcome: scores.context_used(outcome.curve)),
    "tokens-per-second": ("maximize", lambda outcome: outcome.tokens_per_second),
}


def objective(name: str) -> Objective:
    """The objective of a name: `ppl@16T`, `nll@4096`, or a name of NAMED.

    Raises:
        UserError: no such objective.
    """
    if name in NAMED:
        direction, value = NAMED[name]
        return Objective(name, direction, value)
    match = re.fullmatch(r"(ppl|nll)@(\d{1,9})(T?)", name)
    if match is None or int(match[2]) < 1:
        raise unknown("objective", name, ["ppl@16T", "nll@16T", "ppl@4096", *NAMED])
    column, number = match[1], int(match[2])
    if match[3]:
        return Objective(
            name, "minimize", lambda outcome: at(outcome, number * outcome.train_length, column), factor=number
        )
    return Objective(name, "minimize", lambda outcome: at(outcome, number, column), length=number)
