"""Tiles whose formula is compiled: one call each way for a few heads at a time, see `codegen`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from extrapo.attention.cpu.buffers import TileBuffers
from extrapo.attention.cpu.codegen import kinds_of, tile_backward, tile_forward
from extrapo.attention.cpu.private import CompiledFunction
from extrapo.attention.cpu.tile_steps import Grads, TileMethod, TileWorker
from extrapo.attention.cpu.tiling import apply_causal_mask, heads_per_call
from extrapo.encodings.core.bias import Elementwise
from extrapo.encodings.core.logit import Logit


class Factors(ABC):
    """What a compiled formula reads of a bias, and what becomes of the gradients that it gives back.

    Args:
        tensors: what the bias is made of now; those that require gradients are trained.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.trained = [tensor for tensor in tensors if tensor.requires_grad]

    @property
    @abstractmethod
    def logit(self) -> Logit:
        """The formula."""

    @abstractmethod
    def of_rows(self, rows: slice) -> list[Tensor]:
        """What it reads for query rows a..b-1, contiguous: (BH, R or 1, S' or 1) each, for one compiled tile serves any
        number of texts and heads.
        """

    @abstractmethod
    def zeros(self) -> list[Tensor]:
        """Where a worker adds up what trains the bias."""

    @abstractmethod
    def parts(self, factors: Sequence[Tensor], grads: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """What is added there, of the factors of one tile that are trained and of their gradients."""

    @abstractmethod
    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """The gradients of what is trained, from what all workers added up."""


@final
class PointwiseFactors(Factors):
    """Those of the bias, which are small, with a small graph for each tile.

    Args:
        bias: pointwise.
        tensors: what it is made of now.
        batch_heads: B and H.
    """

    def __init__(self, bias: Elementwise, tensors: Sequence[Tensor], batch_heads: Sequence[int]) -> None:
        super().__init__(tensors)
        self.bias, self.batch_heads = bias.rebuilt(tensors), batch_heads

    @property
    def logit(self) -> Logit:
        return self.bias.logit

    def of_rows(self, rows: slice) -> list[Tensor]:
        small = self.bias.factors(rows)
        return [f.expand(*self.batch_heads, *f.shape[2:]).reshape(-1, *f.shape[2:]).contiguous() for f in small]

    def zeros(self) -> list[Tensor]:
        return [torch.zeros_like(tensor) for tensor in self.trained]

    def parts(self, factors: Sequence[Tensor], grads: Sequence[Tensor]) -> Sequence[Tensor | None]:
        return torch.autograd.grad(factors, self.trained, grads, allow_unused=True)

    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor | None]:
        return sums


def compiled_tiles(
    factors: Factors, rows: int, queries: int, keys: int, dtype: torch.dtype, *, backward: bool
) -> TileMethod | None:
    """Tiles of so many rows by one compiled call each, in the backward pass or the forward; None if impossible.

    Args:
        factors: what the formula reads.
        rows: of a full tile.
        queries, keys: T and S.
        dtype: of the logits.
        backward: in which pass.
    """
    with torch.set_grad_enabled(backward):
        last = factors.of_rows(slice(queries - rows, queries))
    kinds = kinds_of(last)
    if backward:
        function = tile_backward(factors.logit, dtype, kinds, tuple(factor.requires_grad for factor in last))
    else:
        function = tile_forward(factors.logit, dtype, kinds)
    return None if function is None else CompiledTiles(factors, function, rows, keys, dtype)


@final
class CompiledTiles(TileMethod):
    """One call each.

    Args:
        factors: what the formula reads.
        function: see `tile_forward`, or in the backward pass `tile_backward`.
        rows: of a full tile.
        keys: S.
        dtype: of the logits.
    """

    def __init__(self, factors: Factors, function: CompiledFunction, rows: int, keys: int, dtype: torch.dtype) -> None:
        super().__init__(factors.tensors, rows, 0)
        self.factors, self.function = factors, function
        self.keys = torch.arange(keys, dtype=dtype)

    def worker(self) -> TileWorker:
        return CompiledWorker(self)

    def of_trained(self, sums: Sequence[Tensor]) -> Sequence[Tensor | None]:
        return self.factors.of_trained(sums)


@final
class CompiledWorker(TileWorker):
    """See CompiledTiles."""

    def __init__(self, method: CompiledTiles) -> None:
        super().__init__(method.factors.zeros())
        self.factors, self.function, self.keys = method.factors, method.function, method.keys

    def inputs(self, buffers: TileBuffers, rows: slice) -> tuple[list[Tensor], list[Tensor]]:
        """What both ways read first: q, k, v; and then: s, and where the rows and keys stand."""
        past = buffers.past(rows)
        keys = self.keys[past]
        scale = torch.full((1, 1, 1), buffers.scale, dtype=keys.dtype)
        row = keys[past.stop - (rows.stop - rows.start) :].unsqueeze(-1)
        return [buffers.q[:, rows], buffers.k[:, past], buffers.v[:, past]], [scale, row, keys]

    def groups(self, buffers: TileBuffers, rows: slice) -> Iterator[slice]:
        """The heads of all texts, as many at a time as one call takes."""
        size = heads_per_call(rows.stop - rows.start, buffers.past(rows).stop)
        return (slice(start, start + size) for start in range(0, buffers.q.size(0), size))

    def forward(self, buffers: TileBuffers, out: Tensor, rows: slice) -> Tensor:
        (qkv, coordinates), factors = self.inputs(buffers, rows), self.factors.of_rows(rows)
        lse = out.new_empty(*out.shape[:2], 1)
        for heads in self.groups(buffers, rows):
            some, of_some = [x[heads] for x in qkv], [x[heads] for x in factors]
            output, some_lse, total = self.function(*some, *coordinates, *of_some)
            if not bool((total < math.sqrt(torch.finfo(total.dtype).max)).all()):
                output, some_lse = self.from_the_largest(some, buffers.scale, of_some)
            out[heads].copy_(output)
            lse[heads].copy_(some_lse)
        return lse

    def from_the_largest(self, qkv: Sequence[Tensor], scale: float, factors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The output and each row's log-sum-exp step by step, however far a logit is from the query's own."""
        q, k, v = qkv
        logits = apply_causal_mask(self.factors.logit(torch.bmm(q, k.mT) * scale, *factors))
        lse = logits.logsumexp(-1, keepdim=True)
        return torch.bmm((logits - lse).exp(), v), lse

    def backward(
        self, buffers: TileBuffers, lse: Tensor, grad: Tensor, delta: Tensor, rows: slice, grads: Grads
    ) -> None:
        qkv, coordinates = self.inputs(buffers, rows)
        with torch.set_grad_enabled(bool(self.factors.trained)):
            factors = self.factors.of_rows(rows)
        numbers, of_factors = [factor.detach() for factor in factors], []
        for heads in self.groups(buffers, rows):
            some, of_some = [x[heads] for x in (*qkv, grad, lse, delta)], [x[heads] for x in numbers]
            dq, dk, dv, *received = self.function(*some, *coordinates, *of_some)
            grads.q[heads].copy_(dq)
            grads.k[heads].add_(dk)
            grads.v[heads].add_(dv)
            of_factors.append(received)
        if trained := [factor for factor in factors if factor.requires_grad]:
            received = [torch.cat(parts) for parts in zip(*of_factors, strict=True)]
            self.accumulate(self.factors.parts(trained, received))
