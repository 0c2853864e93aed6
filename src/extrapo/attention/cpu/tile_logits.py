"""The logits of tiles, their weights and their gradients, from s q.k: step by step, see `tile_ways` for the others.

An autograd graph of each tile, from what the encoding wrote, is the specification of all ways, and what serves without
a compiler. A bias that is the same along every diagonal is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from extrapo.attention.cpu.softmax import Softmax
from extrapo.attention.tiling import capped
from extrapo.attention.cpu.workspace import Workspace, product
from extrapo.encodings.core.bias import Bias


class Into(NamedTuple):
    """Where a tile's gradients go: q (BH, R, d) is written, k and v (BH, d, S') are added to."""

    q: Tensor
    k: Tensor
    v: Tensor


class TileLogits:
    """The way from content to logits and back, of tiles that are made one at a time; here without a bias.

    Args:
        shared: what all workers read.
    """

    def __init__(self, shared: BiasTiles) -> None:
        self.shared = shared
        self.sums = [torch.zeros_like(tensor) for tensor in shared.trained]

    def attended(self, space: Workspace, out: Tensor, rows: slice) -> Tensor:
        """Write the output of these rows, (BH, R, d), to `out`; what their softmax keeps, (BH, R, 1)."""
        p = space.place(1, rows)
        places = space.by_head(p)
        total, kept = self.shared.softmax.first(self.forward(space.content(rows), places, rows), places)
        torch.bmm(p, space.v[:, space.past(rows)], out=out).div_(total.flatten(0, 1))
        return kept.flatten(0, 1)

    def back(self, space: Workspace, kept: Tensor, grad: Tensor, towards: Tensor, rows: slice, into: Into) -> None:
        """The gradients of q, k and v from these rows; takes in the bias's own.

        Args:
            space: where they are made.
            kept: (BH, R, 1), what the softmax kept, contiguous.
            grad: (BH, R, d), the gradient of the output.
            towards: (BH, R, 1), the mean of grad . v under p.
            rows: which they are.
            into: where the gradients go.
        """
        past = space.past(rows)
        p = space.place(1, rows)
        places = space.by_head(p)
        logits = self.forward(space.content(rows), places, rows)
        self.shared.softmax.again(logits, space.by_head(kept), places)
        # The last of the places: the content's own where nobody reads that again.
        ds = space.place(0 if len(space.places) == 2 else 2, rows)
        torch.bmm(grad, space.v[:, past].mT, out=ds)
        # The softmax's Jacobian: dS = P * (dP - rowsum(P * dP)).
        self.take(space.by_head(ds.sub_(towards).mul_(p)), rows)
        into.v.baddbmm_(grad.mT, p)
        product(ds, space.k[:, past], into.q, space.scale)
        into.k.baddbmm_(space.q[:, rows].mT, ds, alpha=space.scale)

    def forward(self, content: Tensor, out: Tensor, rows: slice) -> Tensor:
        """The logits of the content s q.k, (B, H, R, S'), in `out` or in its own place; -inf where the key is later."""
        return capped(content)

    def take(self, ds: Tensor, rows: slice) -> None:
        """Take in the gradient of the logits, and overwrite it by that of the content."""

    def add(self, parts: Sequence[Tensor | None]) -> None:
        """Add gradients of what is trained."""
        for total, part in zip(self.sums, parts, strict=True):
            if part is not None:
                total += part


class Window(TileLogits):
    """A bias that is the same along every diagonal is made for the last rows: other tiles lie further left in it."""

    shared: WindowTiles

    def __init__(self, shared: WindowTiles) -> None:
        super().__init__(shared)
        self.received = torch.zeros_like(shared.last) if shared.trained else torch.zeros(())

    def forward(self, content: Tensor, out: Tensor, rows: slice) -> Tensor:
        return capped(torch.add(content, self.shared.window(self.shared.last.detach(), rows), out=out))

    def take(self, ds: Tensor, rows: slice) -> None:
        if self.shared.trained:
            part = self.shared.window(self.received, rows)
            part.add_(ds.sum_to_size(part.shape))


class Graph(TileLogits):
    """An autograd graph of the tile, kept from `forward` to `backward`."""

    def __init__(self, shared: BiasTiles) -> None:
        super().__init__(shared)
        self.graph: Tensor | None = None
        self.leaf: Tensor | None = None

    def forward(self, content: Tensor, out: Tensor, rows: slice) -> Tensor:
        bias, trained = self.shared.bias, bool(self.shared.trained)
        if bias.additive:
            with torch.set_grad_enabled(trained):
                self.graph = bias.tile(rows)
            return capped(torch.add(content, self.graph.detach(), out=out))
        formula = bias.formula()
        assert formula is not None
        self.leaf = content.detach().requires_grad_(self.shared.backward)
        with torch.set_grad_enabled(self.shared.backward):
            self.graph = formula(self.leaf, *bias.factors(rows))
        return capped(out.copy_(self.graph.detach()))

    def take(self, ds: Tensor, rows: slice) -> None:
        if self.graph is None or not (self.leaf is not None or self.shared.trained):
            return
        leaves = [*([] if self.leaf is None else [self.leaf]), *self.shared.trained]
        found = torch.autograd.grad(self.graph, leaves, ds.sum_to_size(self.graph.shape), allow_unused=True)
        if self.leaf is not None:
            assert found[0] is not None
            ds.copy_(found[0])
            found = found[1:]
        self.graph = self.leaf = None
        self.add(found)


class BiasTiles:
    """What all workers read of a bias; here of none.

    Args:
        bias: any bias whose logits are made of s q.k number by number.
        tensors: what it is made of now, in the order of `Bias.tensors`; those that require gradients are trained.
        backward: gradients are wanted, if only those of the content.
        tile: (B, H, R, S) of the last tile; only the first may have fewer rows.
        softmax: how weights are made of logits.
    """

    worker: type[TileLogits] = TileLogits

    @property
    def places(self) -> int:
        """Tiles that a worker has in memory at a time: what the weights receive is written over the content, unless
        that is read again.
        """
        return 2 if self.bias.additive else 3

    def __init__(
        self, bias: Bias, tensors: Sequence[Tensor], backward: bool, tile: Sequence[int], softmax: Softmax
    ) -> None:
        self.bias, self.tensors, self.backward = bias.rebuilt(tensors), tensors, backward
        self.rows, self.softmax = tile[2], softmax
        self.trained = [tensor for tensor in tensors if tensor.requires_grad]

    def sums(self, workers: Sequence[TileLogits]) -> Sequence[Tensor]:
        """The gradients of what is trained, from what all workers took in."""
        return [sum(parts[1:], parts[0]) for parts in zip(*(worker.sums for worker in workers), strict=True)]

    def gradients(self, workers: Sequence[TileLogits]) -> list[Tensor | None]:
        """Of each of the tensors; None where it is not trained."""
        rest = iter(self.sums(workers) if self.trained else [])
        return [next(rest) if tensor.requires_grad else None for tensor in self.tensors]


class GraphTiles(BiasTiles):
    """See Graph."""

    worker = Graph


class WindowTiles(BiasTiles):
    """See Window."""

    worker = Window

    def __init__(
        self, bias: Bias, tensors: Sequence[Tensor], backward: bool, tile: Sequence[int], softmax: Softmax
    ) -> None:
        super().__init__(bias, tensors, backward, tile, softmax)
        self.queries = bias.shape[2]
        self.first = self.queries - self.rows
        with torch.set_grad_enabled(bool(self.trained)):
            self.last = self.bias.tile(slice(self.first, self.queries))

    def window(self, last: Tensor, rows: slice) -> Tensor:
        """The part of the last tile, or of its gradient, that has the distances of these rows."""
        shift = self.first - rows.start
        stop = last.size(-1) - (self.queries - rows.stop)
        return last[..., : rows.stop - rows.start, shift : shift + stop]

    def sums(self, workers: Sequence[TileLogits]) -> Sequence[Tensor]:
        received, *others = (worker.received for worker in workers if isinstance(worker, Window))
        for other in others:
            received += other
        found = torch.autograd.grad(self.last, self.trained, received, allow_unused=True)
        return [torch.zeros_like(t) if part is None else part for t, part in zip(self.trained, found, strict=True)]
