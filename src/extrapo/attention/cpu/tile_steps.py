"""Tiles step by step: scores, logits, weights, output, and all gradients, each written to a worker's buffers.

An autograd graph of each tile, from what the encoding wrote, is the specification of all other ways, and what serves
without a compiler. A bias that is the same along every diagonal is made once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from extrapo.attention.cpu.buffers import TileBuffers, product
from extrapo.attention.cpu.softmax import Softmax
from extrapo.attention.cpu.tiling import apply_causal_mask
from extrapo.attention.tiling import mask_hidden
from extrapo.encodings.core.bias import Elementwise


class Grads(NamedTuple):
    """Where a tile's gradients go: q (BH, R, d) is written, k and v (BH, d, S') are added to."""

    q: Tensor
    k: Tensor
    v: Tensor


class TileWorker(ABC):
    """Makes tiles of one attention, one at a time.

    Args:
        sums: where it adds up what trains the bias.
    """

    def __init__(self, sums: list[Tensor]) -> None:
        self.sums = sums

    @abstractmethod
    def forward(self, buffers: TileBuffers, out: Tensor, rows: slice) -> Tensor:
        """Write the output of these rows, (BH, R, d), to `out`; each row's log-sum-exp, (BH, R, 1), for `backward`."""

    @abstractmethod
    def backward(
        self, buffers: TileBuffers, lse: Tensor, grad: Tensor, delta: Tensor, rows: slice, grads: Grads
    ) -> None:
        """The gradients of q, k and v from these rows; adds up the bias's own.

        Args:
            buffers: where they are made.
            lse: (BH, R, 1), of `forward`, contiguous.
            grad: (BH, R, d), the gradient of the output.
            delta: (BH, R, 1), the mean of grad . v under the weights.
            rows: which they are.
            grads: where the gradients go.
        """

    @final
    def accumulate(self, parts: Sequence[Tensor | None]) -> None:
        """Add to the sums."""
        for total, part in zip(self.sums, parts, strict=True):
            if part is not None:
                total += part


class TileMethod(ABC):
    """How the tiles of one attention are made: what all its workers read.

    Args:
        tensors: what the bias is made of now, in the order of `Bias.tensors`; those that require gradients are trained.
        rows: of a full tile; only the first may have fewer.
        buffers: tiles that a worker has in memory at a time.
    """

    def __init__(self, tensors: Sequence[Tensor], rows: int, buffers: int) -> None:
        self.tensors, self.rows, self.buffers = tensors, rows, buffers
        self.trained = [tensor for tensor in tensors if tensor.requires_grad]

    @abstractmethod
    def worker(self) -> TileWorker:
        """One that makes tiles so."""

    @abstractmethod
    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """The gradients of what is trained, from what all workers added up."""

    @final
    def gradients(self, workers: Sequence[TileWorker]) -> list[Tensor | None]:
        """Of each of the tensors; None where it is not trained."""
        if not self.trained:
            return [None] * len(self.tensors)
        sums = [sum(parts[1:], parts[0]) for parts in zip(*(worker.sums for worker in workers), strict=True)]
        grads = iter(self.of_trained(sums))
        return [next(grads) if tensor.requires_grad else None for tensor in self.tensors]


#: Takes the gradient of a tile's logits, adds up what trains the bias, and leaves the gradient of the scores there.
Pull = Callable[[Tensor], None]


class StepWorker(TileWorker):
    """One step after the other; subclasses say how the bias comes in.

    Args:
        method: what all workers read.
        sums: where it adds up what trains the bias.
    """

    def __init__(self, method: StepMethod, sums: list[Tensor]) -> None:
        super().__init__(sums)
        self.visibility, self.softmax = method.bias.visibility(), method.softmax

    @abstractmethod
    def logits(self, scores: Tensor, out: Tensor, rows: slice) -> Pull:
        """Write the logits of scores s q.k, (B, H, R, S'), to `out`, unmasked; how their gradient goes back."""

    @final
    def masked_logits(self, scores: Tensor, out: Tensor, rows: slice) -> Pull:
        """The same, -inf where a key is not seen."""
        pull = self.logits(scores, out, rows)
        if self.visibility is None:
            apply_causal_mask(out)
        else:
            mask_hidden(out, self.visibility)
        return pull

    @final
    def forward(self, buffers: TileBuffers, out: Tensor, rows: slice) -> Tensor:
        p = buffers.tile(1, rows)
        weights = buffers.by_head(p)
        self.masked_logits(buffers.scores(rows), weights, rows)
        total, lse = self.softmax.first(weights, weights)
        torch.bmm(p, buffers.v[:, buffers.past(rows)], out=out).div_(total.flatten(0, 1))
        return lse.flatten(0, 1)

    @final
    def backward(
        self, buffers: TileBuffers, lse: Tensor, grad: Tensor, delta: Tensor, rows: slice, grads: Grads
    ) -> None:
        past = buffers.past(rows)
        p = buffers.tile(1, rows)
        weights = buffers.by_head(p)
        pull = self.masked_logits(buffers.scores(rows), weights, rows)
        self.softmax.from_lse(weights, buffers.by_head(lse), weights)
        # The last of the tiles: the scores' own where nobody reads those again.
        ds = buffers.tile(0 if len(buffers.tiles) == 2 else 2, rows)
        torch.bmm(grad, buffers.v[:, past].mT, out=ds)
        # The softmax's Jacobian: dS = P * (dP - rowsum(P * dP)).
        pull(buffers.by_head(ds.sub_(delta).mul_(p)))
        grads.v.baddbmm_(grad.mT, p)
        product(ds, buffers.k[:, past], grads.q, buffers.scale)
        grads.k.baddbmm_(buffers.q[:, rows].mT, ds, alpha=buffers.scale)


class StepMethod(TileMethod):
    """Tiles that are made step by step.

    Args:
        bias: whose logits they are.
        tensors: what it is made of now.
        rows: of a full tile.
        softmax: how weights are made of logits.
        backward: gradients are wanted, if only those of the scores.
    """

    def __init__(
        self, bias: Elementwise, tensors: Sequence[Tensor], rows: int, softmax: Softmax, *, backward: bool
    ) -> None:
        # What the weights receive is written over the scores, unless those are read again.
        super().__init__(tensors, rows, 2 if bias.additive else 3)
        self.bias, self.softmax, self.backward = bias.rebuilt(tensors), softmax, backward


@final
class GraphTiles(StepMethod):
    """An autograd graph of each tile."""

    def worker(self) -> TileWorker:
        return GraphWorker(self)

    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor | None]:
        return sums


@final
class GraphWorker(StepWorker):
    """See GraphTiles."""

    def __init__(self, method: GraphTiles) -> None:
        super().__init__(method, [torch.zeros_like(tensor) for tensor in method.trained])
        self.bias, self.trained, self.differentiates = method.bias, method.trained, method.backward

    def logits(self, scores: Tensor, out: Tensor, rows: slice) -> Pull:
        return (self.added if self.bias.additive else self.by_formula)(scores, out, rows)

    def added(self, scores: Tensor, out: Tensor, rows: slice) -> Pull:
        """Of a bias that is added: the scores' gradient is that of the logits."""
        with torch.set_grad_enabled(bool(self.trained)):
            tile = self.bias.added(rows)
        torch.add(scores, tile.detach(), out=out)

        def pull(ds: Tensor) -> None:
            if tile.requires_grad:
                self.accumulate(torch.autograd.grad(tile, self.trained, ds.sum_to_size(tile.shape), allow_unused=True))

        return pull

    def by_formula(self, scores: Tensor, out: Tensor, rows: slice) -> Pull:
        """Of any other."""
        leaf = scores.detach().requires_grad_(self.differentiates)
        with torch.set_grad_enabled(self.differentiates):
            logits = self.bias.logit(leaf, *self.bias.factors(rows))
        out.copy_(logits.detach())

        def pull(ds: Tensor) -> None:
            of_scores, *of_trained = torch.autograd.grad(logits, [leaf, *self.trained], ds, allow_unused=True)
            self.accumulate(of_trained)
            ds.copy_(of_scores)

        return pull


@final
class ToeplitzTiles(StepMethod):
    """A bias that is the same along every diagonal is made for the last rows: other tiles lie further left in it."""

    def __init__(
        self, bias: Elementwise, tensors: Sequence[Tensor], rows: int, softmax: Softmax, *, backward: bool
    ) -> None:
        super().__init__(bias, tensors, rows, softmax, backward=backward)
        self.queries = bias.shape[2]
        self.first = self.queries - rows
        with torch.set_grad_enabled(bool(self.trained)):
            self.last = self.bias.added(slice(self.first, self.queries))

    def part(self, last: Tensor, rows: slice) -> Tensor:
        """The part of the last tile, or of its gradient, that has the distances of these rows."""
        shift = self.first - rows.start
        stop = last.size(-1) - (self.queries - rows.stop)
        return last[..., : rows.stop - rows.start, shift : shift + stop]

    def worker(self) -> TileWorker:
        return ToeplitzWorker(self)

    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor | None]:
        if not sums:
            return [None] * len(self.trained)
        return torch.autograd.grad(self.last, self.trained, sums, allow_unused=True)


@final
class ToeplitzWorker(StepWorker):
    """See ToeplitzTiles."""

    def __init__(self, method: ToeplitzTiles) -> None:
        super().__init__(method, [torch.zeros_like(method.last)] if method.last.requires_grad else [])
        self.method = method

    def logits(self, scores: Tensor, out: Tensor, rows: slice) -> Pull:
        torch.add(scores, self.method.part(self.method.last.detach(), rows), out=out)

        def pull(ds: Tensor) -> None:
            for received in self.sums:
                part = self.method.part(received, rows)
                part.add_(ds.sum_to_size(part.shape))

        return pull
