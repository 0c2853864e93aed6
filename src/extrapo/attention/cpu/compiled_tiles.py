"""Tiles whose formula is compiled: one call each way for a few heads at a time, see `bodies`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from extrapo.attention.cpu.codegen import Body, described, tile_back, tile_forward
from extrapo.attention.cpu.softmax import Softmax
from extrapo.attention.tiling import capped, heads_per_body
from extrapo.attention.cpu.tile_logits import BiasTiles, Into, TileLogits
from extrapo.attention.cpu.workspace import Workspace
from extrapo.encodings.core.bias import Bias, Formula


class Compiled(TileLogits):
    """Bodies that a compiler made of the formula; the graph is that of the factors, which are small."""

    shared: CompiledTiles

    def read(self, space: Workspace, rows: slice) -> tuple[list[Tensor], list[Tensor]]:
        """What both bodies read first: q, k, v; and then: s, and where the rows and keys stand."""
        past = space.past(rows)
        keys = self.shared.keys[past]
        scale = torch.full((1, 1, 1), space.scale, dtype=keys.dtype)
        row = keys[past.stop - (rows.stop - rows.start) :].unsqueeze(-1)
        return [space.q[:, rows], space.k[:, past], space.v[:, past]], [scale, row, keys]

    def groups(self, space: Workspace, rows: slice) -> Iterator[slice]:
        """The heads of all texts, as many at a time as one call takes."""
        size = heads_per_body(rows.stop - rows.start, space.past(rows).stop)
        return (slice(start, start + size) for start in range(0, space.q.size(0), size))

    def attended(self, space: Workspace, out: Tensor, rows: slice) -> Tensor:
        body, (first, places), factors = self.shared.body, self.read(space, rows), self.shared.factors(rows)
        assert body is not None
        kept = out.new_empty(*out.shape[:2], 1)
        for heads in self.groups(space, rows):
            given = [x[heads] for x in first], places, [x[heads] for x in factors]
            found, lse, total = body(*(x for part in given for x in part))
            if not bool((total < math.sqrt(torch.finfo(total.dtype).max)).all()):
                found, lse = self.from_the_largest(*given)
            out[heads].copy_(found)
            kept[heads].copy_(lse)
        return kept

    def from_the_largest(
        self, first: Sequence[Tensor], places: Sequence[Tensor], factors: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The output and each row's log-sum-exp step by step, however far a logit is from the query's own."""
        (q, k, v), (scale, *_) = first, places
        logits = capped(self.shared.formula(torch.bmm(q, k.mT) * scale, *factors))
        lse = logits.logsumexp(-1, keepdim=True)
        return torch.bmm((logits - lse).exp(), v), lse

    def back(self, space: Workspace, kept: Tensor, grad: Tensor, towards: Tensor, rows: slice, into: Into) -> None:
        body, (first, places) = self.shared.body, self.read(space, rows)
        assert body is not None
        first += [grad, kept, towards]
        with torch.set_grad_enabled(bool(self.shared.trained)):
            factors = self.shared.factors(rows)
        numbers, received = [factor.detach() for factor in factors], []
        for heads in self.groups(space, rows):
            dq, dk, dv, *found = body(*(x[heads] for x in first), *places, *(x[heads] for x in numbers))
            into.q[heads].copy_(dq)
            into.k[heads].add_(dk)
            into.v[heads].add_(dv)
            received.append(found)
        self.receive(factors, [torch.cat(found) for found in zip(*received, strict=True)])

    def receive(self, factors: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """Take in the gradients of those factors that are trained."""
        if wanted := [factor for factor in factors if factor.requires_grad]:
            self.add(torch.autograd.grad(wanted, self.shared.trained, found, allow_unused=True))


class CompiledTiles(BiasTiles):
    """See Compiled.

    Args:
        dtype: of the logits.
    """

    worker = Compiled
    places = 0

    def __init__(
        self, bias: Bias, tensors: Sequence[Tensor], backward: bool, tile: Sequence[int], dtype: torch.dtype
    ) -> None:
        super().__init__(bias, tensors, backward, tile, Softmax())
        self.heads, queries = tile[:2], bias.shape[2]
        self.keys = torch.arange(bias.shape[3], dtype=dtype)
        with torch.set_grad_enabled(backward):
            factors = self.factors(slice(queries - self.rows, queries))
        self.formula, kinds = self.of_body(), described(factors)
        trained = tuple(factor.requires_grad for factor in factors)
        #: `tile_forward` in the forward pass, `tile_back` in the backward pass.
        self.body: Body | None = (
            tile_back(self.formula, dtype, kinds, trained) if backward else tile_forward(self.formula, dtype, kinds)
        )

    def of_body(self) -> Formula:
        """The formula that is compiled."""
        formula = self.bias.formula()
        assert formula is not None
        return formula

    def factors(self, rows: slice) -> list[Tensor]:
        """What the formula reads, contiguous: (BH, R or 1, S' or 1) each, for one body serves any number of texts and
        heads.
        """
        small = self.bias.factors(rows)
        return [f.expand(*self.heads, *f.shape[2:]).reshape(-1, *f.shape[2:]).contiguous() for f in small]
