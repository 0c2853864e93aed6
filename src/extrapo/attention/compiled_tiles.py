"""Tiles whose formula is compiled: one call each way, see `bodies`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from extrapo.attention.bodies import Body, described, tile_again, tile_forward
from extrapo.attention.softmax import Softmax
from extrapo.attention.tile_logits import BiasTiles, Graph
from extrapo.attention.workspace import Workspace
from extrapo.encodings.bias import Bias, Formula


class Compiled(Graph):
    """Bodies that a compiler made of the formula; the graph is that of the factors, which are small."""

    shared: CompiledTiles

    def read(self, space: Workspace, rows: slice) -> tuple[list[Tensor], list[Tensor]]:
        """What both bodies read first: q, k, v; and then: s, and where the rows and keys stand."""
        past = space.past(rows)
        keys = self.shared.keys[past]
        scale = torch.full((1, 1, 1), space.scale, dtype=keys.dtype)
        row = keys[past.stop - (rows.stop - rows.start) :].unsqueeze(-1)
        return [space.q[:, rows], space.k[:, past], space.v[:, past]], [scale, row, keys]

    def attended(self, space: Workspace, out: Tensor, rows: slice) -> Tensor:
        assert self.shared.body is not None
        first, places = self.read(space, rows)
        found: Tensor
        kept: Tensor
        found, kept, total = self.shared.body(*first, *places, *self.shared.factors(rows))
        if not bool((total < math.sqrt(torch.finfo(total.dtype).max)).all()):
            return self.from_the_largest(space, out, rows)
        out.copy_(found)
        return kept

    def from_the_largest(self, space: Workspace, out: Tensor, rows: slice) -> Tensor:
        """`attended` step by step, however far a logit is from the query's own."""
        logits = self.forward(space.content(rows), space.by_head(space.place(1, rows)), rows)
        kept = logits.logsumexp(-1, keepdim=True)
        torch.bmm(logits.sub_(kept).exp_().flatten(0, 1), space.v[:, space.past(rows)], out=out)
        return kept.flatten(0, 1)

    def again(
        self, space: Workspace, kept: Tensor, grad: Tensor, towards: Tensor, rows: slice
    ) -> tuple[Tensor, Tensor]:
        assert self.shared.body is not None
        first, places = self.read(space, rows)
        with torch.set_grad_enabled(bool(self.shared.trained)):
            factors = self.shared.factors(rows)
        numbers = (factor.detach() for factor in factors)
        p, ds, *found = self.shared.body(*first, grad, kept, towards, *places, *numbers)
        self.receive(factors, found)
        return p, ds

    def receive(self, factors: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """Take in the gradients of those factors that are trained."""
        if wanted := [factor for factor in factors if factor.requires_grad]:
            self.add(torch.autograd.grad(wanted, self.shared.trained, found, allow_unused=True))


class CompiledTiles(BiasTiles):
    """See Compiled.

    Args:
        tile: (B, H, R, S) of the last tile.
        dtype: of the logits.
    """

    worker = Compiled

    def __init__(
        self, bias: Bias, tensors: Sequence[Tensor], backward: bool, tile: Sequence[int], dtype: torch.dtype
    ) -> None:
        super().__init__(bias, tensors, backward, Softmax())
        self.heads, queries = tile[:2], bias.shape[2]
        self.keys = torch.arange(bias.shape[3], dtype=dtype)
        with torch.set_grad_enabled(backward):
            factors = self.factors(slice(queries - tile[2], queries))
        formula, kinds = self.of_body(), described(factors)
        trained = tuple(factor.requires_grad for factor in factors)
        #: Of the bias's formula, `tile_forward` in the forward pass, `tile_again` in the backward pass.
        self.body: Body | None = (
            tile_again(formula, dtype, kinds, trained) if backward else tile_forward(formula, dtype, kinds)
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

    @property
    def places(self) -> int:
        return 0 if self.backward else super().places
