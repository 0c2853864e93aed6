"""The logits of tiles, their weights and their gradients, from s q.k: one of four ways, by what the bias is.

    nothing     no bias
    window      a bias that is the same along every diagonal: made once, every tile is a part of it
    compiled    a formula of single numbers, and a compiler at hand: one loop
    graph       anything else: an autograd graph of each tile, from what the encoding wrote

The last one is the specification of the others, and what serves without a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from extrapo.attention.compiled import described, gradient_loop, logits_loop, weights_loop
from extrapo.attention.softmax import Exponentials, Loop, Softmax, softmax
from extrapo.attention.spans import capped
from extrapo.encodings.bias import Bias, NoBias


class TileLogits:
    """The way from content to logits and back, of tiles that are made one at a time; here without a bias.

    Args:
        shared: what all workers read.
    """

    def __init__(self, shared: BiasTiles) -> None:
        self.shared = shared
        self.sums = [torch.zeros_like(tensor) for tensor in shared.trained]

    def forward(self, content: Tensor, out: Tensor, rows: slice) -> Tensor:
        """The logits of the content s q.k, (B, H, R, S'), in `out` or in its own place; -inf where the key is later."""
        return capped(content)

    def weights(self, content: Tensor, kept: Tensor, out: Tensor, rows: slice) -> None:
        """Write to `out` the weights of the content, from what the softmax kept of these rows, (B, H, R, 1)."""
        self.shared.softmax.again(self.forward(content, out, rows), kept, out)

    def backward(self, content: Tensor, p: Tensor, dp: Tensor, towards: Tensor, rows: slice) -> None:
        """Overwrite dp, what the weights p receive, by the gradient of the content; take in the bias's own.

        All of one tile, the last that was made, (B, H, R, S'), but `towards`, (B, H, R, 1): the mean of dp under p.
        The content has its value only where the bias is not additive.
        """
        self.take(dp.sub_(towards).mul_(p), rows)

    def take(self, ds: Tensor, rows: slice) -> None:
        """Take in the gradient of the logits."""

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


class Compiled(TileLogits):
    """A loop that a compiler made of the formula; the graph is that of the factors, which are small."""

    shared: CompiledTiles

    def forward(self, content: Tensor, out: Tensor, rows: slice) -> Tensor:
        self.shared.loop(content, out, *self.of(rows))
        return capped(out)

    def weights(self, content: Tensor, kept: Tensor, out: Tensor, rows: slice) -> None:
        self.shared.loop(content, out, kept, *self.of(rows))
        capped(out, outside=0.0)

    def of(self, rows: slice) -> list[Tensor]:
        """The numbers of the factors, whose graph is kept for `backward`."""
        with torch.set_grad_enabled(bool(self.shared.trained)):
            self.factors = [factor.contiguous() for factor in self.shared.bias.factors(rows)]
        return [factor.detach() for factor in self.factors]

    def backward(self, content: Tensor, p: Tensor, dp: Tensor, towards: Tensor, rows: slice) -> None:
        factors = (factor.detach() for factor in self.factors)
        found = self.shared.gradient(content, p, dp, towards, *factors)
        wanted = [factor for factor in self.factors if factor.requires_grad]
        if wanted:
            self.add(torch.autograd.grad(wanted, self.shared.trained, found, allow_unused=True))
        self.factors = []


class BiasTiles:
    """What all workers read of a bias; here of none.

    Args:
        bias: any bias whose logits are made of s q.k number by number.
        tensors: what it is made of now, in the order of `Bias.tensors`; those that require gradients are trained.
        backward: gradients are wanted, if only those of the content.
        softmax: how weights are made of logits.
    """

    worker: type[TileLogits] = TileLogits

    def __init__(self, bias: Bias, tensors: Sequence[Tensor], backward: bool, softmax: Softmax) -> None:
        self.bias, self.tensors, self.backward = bias.rebuilt(tensors), tensors, backward
        self.softmax = softmax
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
    """See Window.

    Args:
        size: rows of a full tile; only the first may have fewer.
    """

    worker = Window

    def __init__(self, bias: Bias, tensors: Sequence[Tensor], backward: bool, softmax: Softmax, size: int) -> None:
        super().__init__(bias, tensors, backward, softmax)
        self.queries = bias.shape[2]
        self.first = max(0, self.queries - size)
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


class CompiledTiles(BiasTiles):
    """See Compiled.

    Args:
        loop: of the bias's formula: of its logits in the forward pass, of its weights in the backward pass.
        gradient: of the formula's derivative; not read in the forward pass.
    """

    worker = Compiled

    def __init__(
        self, bias: Bias, tensors: Sequence[Tensor], backward: bool, softmax: Softmax, loop: Loop, gradient: Loop
    ) -> None:
        super().__init__(bias, tensors, backward, softmax)
        self.loop, self.gradient = loop, gradient


def compiled_tiles(
    bias: Bias, tensors: Sequence[Tensor], backward: bool, softmax: Softmax, tile: Sequence[int], dtype: torch.dtype
) -> CompiledTiles | None:
    """None where the bias has no formula, or it cannot be compiled; arguments as those of `bias_tiles`."""
    if (formula := bias.formula()) is None:
        return None
    queries = bias.shape[2]
    with torch.set_grad_enabled(backward):
        factors = bias.rebuilt(tensors).factors(slice(queries - tile[2], queries))
    kinds = described(factors, tile)
    if not backward:
        logits = logits_loop(formula, dtype, kinds)
        return None if logits is None else CompiledTiles(bias, tensors, backward, softmax, logits, logits)
    weights = weights_loop(formula, dtype, kinds)
    gradient = gradient_loop(formula, dtype, kinds, tuple(factor.requires_grad for factor in factors))
    if weights is None or gradient is None:
        return None
    return CompiledTiles(bias, tensors, backward, softmax, weights, gradient)


def bias_tiles(
    bias: Bias, tensors: Sequence[Tensor], backward: bool, *, tile: Sequence[int], dtype: torch.dtype, compiled: bool
) -> BiasTiles:
    """The way that serves; arguments as those of the classes, and

    Args:
        tile: (B, H, R, S) of the last tile.
        dtype: of the logits.
        compiled: compile what can be: the exponentials, and the formula, if there is one.
    """
    how = softmax(dtype, compiled)
    if isinstance(bias, NoBias):
        return BiasTiles(bias, tensors, backward, how)
    if bias.additive and bias.toeplitz():
        return WindowTiles(bias, tensors, backward, how, tile[2])
    # Where exponentials cannot be compiled, nothing can.
    if isinstance(how, Exponentials) and (found := compiled_tiles(bias, tensors, backward, how, tile, dtype)):
        return found
    return GraphTiles(bias, tensors, backward, how)
