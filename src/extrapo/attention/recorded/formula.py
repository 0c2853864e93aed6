"""Formula: an elementwise logit and its derivatives, recorded once as operations on the numbers of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph

from extrapo.attention.recorded.private import record
from extrapo.attention.recorded.rewrite_exp_log import rewrite_exp_log
from extrapo.encodings.core.logit import Logit

#: Pairs to record with: a size that no formula has of its own.
PAIRS = 13


@dataclass(frozen=True)
class Formula:
    """Graphs of numbers, every tensor of which ends in a dimension for the pairs.

    Args:
        terms: (score, *factors) -> a, b, ... of the logit a - ln b - ...
        gradients: (score, *factors, g) -> the gradients of the score and of the trained factors, g being the logit's.
    """

    terms: Graph
    gradients: Graph


def record_formula(logit: Logit, dtype: torch.dtype, trained: Sequence[bool]) -> Formula:
    """The formula of a bias.

    Args:
        logit: the formula.
        dtype: of all numbers.
        trained: of each factor, whether its gradient is wanted.

    Raises:
        Exception: whatever recording somebody's formula may raise.
    """
    score, g, *factors = torch.rand(2 + len(trained), PAIRS, dtype=dtype).unbind(0)

    def gradients(score: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        *factors, g = rest

        def of_trained(score: Tensor, *leaves: Tensor) -> Tensor:
            leaf = iter(leaves)
            return logit(score, *(next(leaf) if t else f for f, t in zip(factors, trained, strict=True)))

        _, pull, *_ = torch.func.vjp(of_trained, score, *(f for f, t in zip(factors, trained, strict=True) if t))
        return pull(g)  # type: ignore[no-any-return]

    # Without the annotations of a method, which the recorder would look up.
    terms = rewrite_exp_log(lambda *x: logit(*x), score, *factors)
    return Formula(record(terms, score, *factors).graph, record(gradients, score, *factors, g).graph)
