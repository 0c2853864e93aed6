"""Factors: what a compiled formula reads of a bias for a whole text, and how gradients come back to the bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from extrapo.attention.recorded.kinds import Kind, kind, line_formula
from extrapo.encodings.core.bias import Elementwise
from extrapo.encodings.core.logit import Logit
from extrapo.encodings.core.turned import TurnedRows


@dataclass(frozen=True)
class Factors:
    """A formula, and all that it reads.

    Args:
        logit: the formula.
        numbers: (B or 1, H or 1, T or 1, S or 1) each, contiguous; a line is (1, H or 1, 1, S).
        kinds: of each.
        turns: (1, H, 1, S) turns of scores that turn with the distance, as the last query has them; None where they are
            s q.k.
        theta: (F,) their frequencies.
    """

    logit: Logit
    numbers: tuple[Tensor, ...]
    kinds: tuple[Kind, ...]
    turns: Tensor | None = None
    theta: Tensor | None = None

    @classmethod
    def of(cls, bias: Elementwise | TurnedRows, dtype: torch.dtype) -> Self:
        """Those of a bias, in `dtype`: lines, where the formula is the same along every diagonal. A long formula of the
        distance alone is then computed once for each distance, and so are its derivatives.
        """
        if isinstance(bias, TurnedRows):
            return replace(cls.of(bias.host, dtype), turns=bias.line_of_turns(), theta=bias.theta)
        if (line := bias.line()) is not None:
            logit, factors = line_formula(line, bias.shape[3])
            numbers = [x.to(dtype).contiguous() for x in factors]
            return cls(logit, tuple(numbers), (Kind.LINE,) * len(numbers))
        bias = bias.whole_text()
        numbers = [x.to(dtype).contiguous() for x in bias.factors(slice(0, bias.shape[2]))]
        return cls(bias.logit, tuple(numbers), tuple(kind(x) for x in numbers))

    @classmethod
    def of_row(cls, bias: Elementwise, dtype: torch.dtype) -> Self:
        """Those of the only query, from the step before where decoding keeps them."""
        if (line := bias.cached_line()) is not None:
            logit, of_line = line_formula(line, bias.shape[3])
            factors = tuple(of_line)
        else:
            logit, factors = bias.row_formula()
        numbers = tuple(x.to(dtype) if x.stride(-1) == 1 else x.to(dtype).contiguous() for x in factors)
        return cls(logit, numbers, tuple(kind(x) for x in numbers))

    @property
    def trained(self) -> tuple[bool, ...]:
        """Which of them get gradients."""
        return tuple(x.requires_grad for x in self.numbers)

    def gradients(
        self, received: Sequence[Tensor], of_turns: Tensor | None, leaves: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """Of the tensors that they are a graph of, None for those that require none.

        Args:
            received: of each trained factor, its gradient in each text and head, (G, B, H, n).
            of_turns: that of the turns, (G, B, H, S).
            leaves: these tensors.
        """
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        if not wanted:
            return [None] * len(leaves)
        trained = [x for x in self.numbers if x.requires_grad]
        sums = [g.sum(0).unsqueeze(-1 if x.size(-2) > 1 else -2) for g, x in zip(received, trained, strict=True)]
        if of_turns is not None and self.turns is not None:
            trained.append(self.turns)
            sums.append(of_turns.to(self.turns.dtype).sum(0).unsqueeze(-2))
        sums = [g.sum_to_size(x.shape).to(x.dtype) for g, x in zip(sums, trained, strict=True)]
        found = iter(torch.autograd.grad(trained, wanted, sums, allow_unused=True))
        return [next(found) if leaf.requires_grad else None for leaf in leaves]
