"""Toeplitz logits t(n) s q.k + b(n) by compiled tiles, with t and b read from one line of distances.

A long formula of the distance alone is the same for every text and along every diagonal of every tile: it is computed
once, for the last query, and a compiled loop reads each row's part of it where it would compute it anew. So are its
derivatives by what is trained, where those are numbers of each head: dL/da = sum of dL/dlogit (dt/da s q.k + db/da).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.cpu.compiled_tiles import Factors
from extrapo.encodings.core.bias import Elementwise
from extrapo.encodings.core.logit import Logit


def has_line(bias: Elementwise, tensors: Sequence[Tensor]) -> bool:
    """Whether logits under a bias of these tensors are so, and what is trained is a number of each head, or of all."""
    numbers = (bias.shape[1], 1, 1), ()
    if bias.logit.additive or not all(x.shape in numbers for x in tensors if x.requires_grad):
        return False
    return bias.rebuilt(tensors).line() is not None


@final
@dataclass(frozen=True)
class LineLogit(Logit):
    """t s q.k + b, with t and b moved by trained numbers a that are 0, each times a slope.

    Of factors t, b, the numbers, and the slopes; the rows of t, b and the slopes go from the last to the first.

    Args:
        moves: of each number, whether t has a slope, and whether b has one.
    """

    moves: tuple[tuple[bool, bool], ...] = ()

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        lines, rest = [x.flip(-2) for x in factors[:2]], iter(factors[2:])
        numbers = [next(rest) for _ in self.moves]
        for number, sloped in zip(numbers, self.moves, strict=True):
            for n, has_slope in enumerate(sloped):
                if has_slope:
                    lines[n] = lines[n] + number * next(rest).flip(-2)
        t, b = lines
        return score * t + b


@final
class LineFactors(Factors):
    """Views of the lines; the numbers of each head get their gradients as they are, without a graph.

    Args:
        bias: see `has_line`.
        tensors: what it is made of now.
        batch_heads: B and H.
        rows: of a full tile.
        dtype: of the logits.
    """

    def __init__(
        self, bias: Elementwise, tensors: Sequence[Tensor], batch_heads: Sequence[int], rows: int, dtype: torch.dtype
    ) -> None:
        super().__init__(tensors)
        self.batch_heads, self.rows = batch_heads, rows
        _, _, self.queries, self.length = bias.shape
        lines = list(line(bias, [x.detach() for x in tensors]))
        pairs = slopes(bias, tensors) if self.trained else []
        self.moves = tuple((t is not None, b is not None) for t, b in pairs)
        lines += [x for pair in pairs for x in pair if x is not None]
        self.lines = [self.of_all_heads(x) for x in lines]
        # (BH, 1, 1) each: what is trained, as 0.
        self.numbers = [torch.zeros(math.prod(batch_heads), 1, 1, dtype=dtype, requires_grad=True) for _ in pairs]

    def of_all_heads(self, x: Tensor) -> Tensor:
        """A line (1, H or 1, 1, S) as (BH, S + R - 1): beyond the last key nothing is seen, and rows above read 0."""
        return F.pad(x.expand(*self.batch_heads, 1, -1).flatten(0, 2), (0, self.rows - 1))

    @property
    def logit(self) -> Logit:
        return LineLogit(self.moves)

    def of_rows(self, rows: slice) -> list[Tensor]:
        beyond = self.queries - rows.stop
        shifted = slice(beyond, beyond + rows.stop - rows.start)
        views = [x.unfold(-1, self.length - beyond, 1)[:, shifted] for x in self.lines]
        return [*views[:2], *self.numbers, *views[2:]]

    def zeros(self) -> list[Tensor]:
        return [torch.zeros_like(number) for number in self.numbers]

    def parts(self, factors: Sequence[Tensor], grads: Sequence[Tensor]) -> Sequence[Tensor]:
        return grads

    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        pairs = list(zip(sums, self.trained, strict=True))
        totals = (x.view(*self.batch_heads, 1, 1).sum(0) if of.dim() else x.sum() for x, of in pairs)
        return [x.to(of.dtype) for x, (_, of) in zip(totals, pairs, strict=True)]


def line(bias: Elementwise, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`Elementwise.line` over other tensors, (1, H or 1, 1, S) both."""
    affine = bias.rebuilt(tensors).line()
    assert affine is not None
    t, b = affine
    assert t is not None
    return t.expand(*t.shape[:-1], bias.shape[3]), b.expand(*b.shape[:-1], bias.shape[3])


def slopes(bias: Elementwise, tensors: Sequence[Tensor]) -> list[tuple[Tensor | None, Tensor | None]]:
    """The derivatives of t and b by each of the trained tensors, as long as they are; None where one has none.

    From two backward passes, for a number of each head is read by that head's part of a line alone: the first takes
    v to the sum of v dt/da over the line, and the derivative of that by v is dt/da.
    """
    trained = [x for x in tensors if x.requires_grad]
    with torch.enable_grad():
        lines = line(bias, tensors)
        v = [torch.ones_like(x, requires_grad=True) for x in lines]
        total = (lines[0] * v[0]).sum() + (lines[1] * v[1]).sum()
        by_a = torch.autograd.grad(total, trained, create_graph=True, allow_unused=True)
        by_v = [x if x is None else torch.autograd.grad(x.sum(), v, retain_graph=True, allow_unused=True) for x in by_a]
    return [(None, None) if x is None else (x[0], x[1]) for x in by_v]
