"""The tiles of an additive bias, and their gradients: an autograd graph per tile, or one for all where they repeat.

A bias that is the same along every diagonal (a kernel of index distances) is made once, for the last rows over all
keys: every other tile is a window of that one, further to the left in it, and so is its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from extrapo.encodings.bias import Bias, NoBias


class BiasTiles:
    """What all workers read of a bias.

    Args:
        bias: any additive bias.
        tensors: what it is made of now, in the order of `Bias.tensors`; those that require gradients are trained.
        size: rows of a full tile; only the first may have fewer.
    """

    def __init__(self, bias: Bias, tensors: Sequence[Tensor], size: int) -> None:
        self.bias = bias.rebuilt(tensors)
        self.tensors = tensors
        self.trained = [tensor for tensor in tensors if tensor.requires_grad]
        self.none = isinstance(bias, NoBias)
        self.queries = bias.shape[2]
        self.first = max(0, self.queries - size)
        self.last: Tensor | None = None
        if bias.toeplitz():
            with torch.set_grad_enabled(bool(self.trained)):
                self.last = self.bias.tile(slice(self.first, self.queries))

    def window(self, last: Tensor, rows: slice) -> Tensor:
        """The part of the last tile, or of its gradient, that has the distances of these rows."""
        shift = self.first - rows.start
        stop = last.size(-1) - (self.queries - rows.stop)
        return last[..., : rows.stop - rows.start, shift : shift + stop]

    def gradients(self, workers: Sequence[BiasWorker]) -> list[Tensor | None]:
        """Of each of the tensors, from what all workers took in; None where it is not trained."""
        if self.last is None:
            sums = [sum(parts[1:], parts[0]) for parts in zip(*(worker.sums for worker in workers), strict=True)]
        elif self.trained:
            received = torch.stack([worker.received for worker in workers]).sum(0)
            found = torch.autograd.grad(self.last, self.trained, received, allow_unused=True)
            sums = [torch.zeros_like(t) if part is None else part for t, part in zip(self.trained, found, strict=True)]
        else:
            sums = []
        rest = iter(sums)
        return [next(rest) if tensor.requires_grad else None for tensor in self.tensors]


class BiasWorker:
    """One worker's tiles and the gradients that it takes in; between `tile` and `take` it holds one tile's graph.

    Args:
        shared: the bias.
    """

    def __init__(self, shared: BiasTiles) -> None:
        self.shared = shared
        repeats = shared.last is not None
        self.sums = [] if repeats else [torch.zeros_like(tensor) for tensor in shared.trained]
        self.received = torch.zeros_like(shared.last) if shared.last is not None and shared.trained else torch.zeros(())
        self.graph: Tensor | None = None

    def tile(self, rows: slice) -> Tensor | None:
        """(B or 1, H or 1, R, S'), detached; None where there is no bias."""
        if self.shared.none:
            return None
        if self.shared.last is not None:
            return self.shared.window(self.shared.last.detach(), rows)
        with torch.set_grad_enabled(bool(self.shared.trained)):
            self.graph = self.shared.bias.tile(rows)
        return self.graph.detach()

    def take(self, ds: Tensor, rows: slice) -> None:
        """Take in the gradient (B, H, R, S') of the tile that was made last."""
        if not self.shared.trained:
            return
        if self.shared.last is not None:
            part = self.shared.window(self.received, rows)
            part.add_(ds.sum_to_size(part.shape))
            return
        assert self.graph is not None
        received = ds.sum_to_size(self.graph.shape)
        parts = torch.autograd.grad(self.graph, self.shared.trained, received, allow_unused=True)
        self.graph = None
        for total, part in zip(self.sums, parts, strict=True):
            if part is not None:
                total += part
