"""Attention by tiles, forward and backward, for a bias whose logits are made of s q.k number by number.

The forward pass keeps the output and one number of each row; the backward pass makes each tile again (as FlashAttention
does, Dao et al., 2205.14135). Threads share the tiles out among themselves. A tile is made the first way that serves:

    compiled, of a line    the formula is the same along every diagonal, and a compiler is at hand: one call each way
    compiled               any other formula of single numbers, and a compiler at hand: one call each way
    toeplitz               a bias that is the same along every diagonal: made once, every tile is a part of it
    graph                  anything else: an autograd graph of each tile, from what the encoding wrote

The last one is the specification of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.cpu.buffers import TileBuffers, buffer
from extrapo.attention.cpu.compiled_tiles import Factors, PointwiseFactors, compiled_tiles
from extrapo.attention.cpu.parallel import balanced_groups, parallel_for, parallel_groups, worker_count
from extrapo.attention.cpu.softmax import softmax
from extrapo.attention.cpu.tile_steps import Grads, GraphTiles, TileMethod, ToeplitzTiles
from extrapo.attention.cpu.tiling import rows_per_compiled_tile
from extrapo.attention.cpu.toeplitz import LineFactors, has_line
from extrapo.attention.tiling import rows_per_tile, tile_slices
from extrapo.encodings.core.bias import Elementwise


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, bias: Elementwise, scale: float, *, compiled: bool) -> Tensor:
    """softmax(logits) v; shapes as Backend. `compiled`: compile what can be."""
    # Under autocast q, k, v arrive in half precision; inside, every dtype is chosen by hand.
    with torch.autocast("cpu", enabled=False):
        return TiledAttention.apply(q, k, v, bias, scale, compiled, *bias.tensors())  # type: ignore[no-any-return, no-untyped-call]


def tile_method(
    bias: Elementwise, tensors: Sequence[Tensor], q: Tensor, k: Tensor, *, compiled: bool, backward: bool
) -> TileMethod:
    """The way that serves.

    Args:
        bias: whose tiles they are.
        tensors: what it is made of now, leaves of a graph in the backward pass.
        q, k: (B, H, T, d), (B, H, S, d).
        compiled: compile what can be: the formula, or else the exponentials.
        backward: in which pass.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    (batch, heads, queries, _), keys = q.shape, k.size(2)
    repeats = bias.additive and bias.toeplitz()
    if compiled and not repeats and bias.pointwise() and bias.visibility() is None:
        rows = min(rows_per_compiled_tile(queries, keys), queries)
        # A view of one row alone is no diagonal: the loop would take it for a row of its own.
        factors: Factors
        if rows > 1 and has_line(bias, tensors):
            factors = LineFactors(bias, tensors, (batch, heads), rows, dtype)
        else:
            factors = PointwiseFactors(bias, tensors, (batch, heads))
        method = compiled_tiles(factors, rows, queries, keys, dtype, backward=backward)
        if method is not None:
            return method
    # Sums of gradients weigh more where the exponentials are compiled: fewer tiles have fewer of them.
    rows = min(rows_per_tile(batch * heads, keys, queries, tiles=4 if compiled else 8), queries)
    steps = ToeplitzTiles if repeats else GraphTiles
    return steps(bias, tensors, rows, softmax(dtype, compiled), backward=backward)


def rows_of(x: Tensor) -> Tensor:
    """(B, H, N, d) -> (BH, N, d), detached, in float32 at least: half precision is how q, k, v are kept, no more.

    Contiguous: compiled tiles take parts of whole rows, and a model's projections leave the tokens before the heads.
    """
    return x.detach().to(torch.promote_types(x.dtype, torch.float32)).flatten(0, 1).contiguous()


class TiledAttention(torch.autograd.Function):
    """See `tiled_attention`."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Elementwise, scale: float, compiled: bool, *tensors: Tensor
    ) -> Tensor:
        q3, k3, v3 = rows_of(q), rows_of(k), rows_of(v)
        method = tile_method(bias, [t.detach() for t in tensors], q, k, compiled=compiled, backward=False)
        out = v3.new_empty(*q3.shape[:-1], v3.size(-1))
        lse = q3.new_empty(*q3.shape[:-1], 1)
        tiles = tile_slices(q3.size(1), method.rows)[::-1]
        count = worker_count(len(tiles))
        workers = [method.worker() for _ in range(count)]
        buffers = [TileBuffers(q3, k3, v3, scale, q.size(1), method.rows, method.buffers, n) for n in range(count)]
        # Rows do not depend on one another: who is free takes the longest tile that is left.
        queue = iter(tiles)

        def work(worker: int) -> None:
            for rows in queue:
                lse[:, rows] = workers[worker].forward(buffers[worker], out[:, rows], rows)

        parallel_for(work, count)
        ctx.save_for_backward(q, k, v, out, lse, *tensors)
        ctx.bias, ctx.scale, ctx.compiled = bias.rebuilt([t.detach() for t in tensors]), scale, compiled
        return out.view(*q.shape[:-1], v.size(-1)).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[-len(tensors) :] if tensors else ()
        leaves = [t.detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
        of_qkv, of_tensors = tile_gradients(
            q, k, v, out, lse, grad_outputs[0], ctx.bias, leaves, ctx.scale, compiled=ctx.compiled
        )
        return *of_qkv, None, None, None, *of_tensors


def tile_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    grad: Tensor,
    bias: Elementwise,
    tensors: Sequence[Tensor],
    scale: float,
    *,
    compiled: bool,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The gradients of q, k and v, and of the bias's tensors, None for those that require none.

    Args:
        q, k, v: as the forward pass had them.
        out: (BH, T, d), its output in float32 at least.
        lse: (BH, T, 1), each row's log-sum-exp.
        grad: (B, H, T, d), the gradient of the output.
        bias: the bias.
        tensors: what it is made of, leaves of a graph.
        scale: s.
        compiled: compile what can be.
    """
    q3, k3, v3, grad = rows_of(q), rows_of(k), rows_of(v), rows_of(grad)
    method = tile_method(bias, tensors, q, k, compiled=compiled, backward=True)
    dq = torch.empty_like(q3)
    tiles = tile_slices(q3.size(1), method.rows)[::-1]
    count = worker_count(len(tiles))
    buffers = [TileBuffers(q3, k3, v3, scale, q.size(1), method.rows, method.buffers, n) for n in range(count)]
    groups = balanced_groups(tiles, count)
    workers = [method.worker() for _ in groups]
    # Transposed, (BH, d, S): see `tile_backward`.
    shapes = [(x.size(0), x.size(2), x.size(1)) for x in (k3, v3)]
    sums = [[buffer(q3, shape, n, f"sum {i}") for i, shape in enumerate(shapes)] for n in range(1, len(groups))]
    sums.insert(0, [q3.new_empty(shape) for shape in shapes])
    for total in chain.from_iterable(sums):
        total.zero_()

    def work(worker: int, group: int, rows: slice) -> None:
        (dk, dv), received = sums[group], grad[:, rows]
        past = buffers[worker].past(rows)
        delta = (received * out[:, rows]).sum(-1, keepdim=True)
        grads = Grads(dq[:, rows], dk[..., past], dv[..., past])
        workers[group].backward(buffers[worker], lse[:, rows].contiguous(), received, delta, rows, grads)

    parallel_groups(work, groups, count)
    for first, *rest in zip(*sums, strict=True):
        for other in rest:
            first += other
    totals = (x.transpose(1, 2) for x in sums[0])
    of_qkv = [g.reshape(x.shape).to(x.dtype) for g, x in zip((dq, *totals), (q, k, v), strict=True)]
    return of_qkv, method.gradients(workers)
