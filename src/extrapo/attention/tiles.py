"""Tiles: blocks of query rows over the keys before them, recomputed in the backward pass. Any bias, linear memory.

Exact attention, a tile of R rows at a time, so that nothing of size T x T is ever kept and the half above the diagonal
is never computed. The backward pass makes each tile again (as FlashAttention does, Dao et al., 2205.14135) and sends
the gradient of its logits into the bias through a small autograd graph of that tile alone: whatever an encoding writes
in `tile` or `score` is trained, and no encoding writes a derivative.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from extrapo.encodings.bias import Bias, NoBias

#: A tile's logits (B x H x R x S floats) should stay near the cache; fewer rows than 16 starve the matrix products.
TILE_BYTES = 2**22
MIN_ROWS, MAX_ROWS = 16, 128


def rows_per_tile(batch_heads: int, keys: int, queries: int) -> int:
    """Rows of a tile, a power of two: as many as keep the tile small, no more than an eighth of the queries."""
    rows = TILE_BYTES // max(1, 4 * batch_heads * keys)
    rows = min(rows, queries // 8)
    return 1 << (max(MIN_ROWS, min(MAX_ROWS, rows)).bit_length() - 1)


def spans(queries: int, rows: int) -> Iterator[slice]:
    """The tiles' query rows."""
    for start in range(0, queries, rows):
        yield slice(start, min(start + rows, queries))


def masked(logits: Tensor, rows: slice) -> Tensor:
    """-inf where the key is later; the last R columns of a tile hold its diagonal. Overwrites `logits`."""
    size = rows.stop - rows.start
    future = torch.ones(size, size, dtype=torch.bool, device=logits.device).triu_(1)
    logits[..., -size:].masked_fill_(future, float("-inf"))
    return logits


def additive_logits(q: Tensor, k: Tensor, tile: Tensor | None, scale: float, heads: int) -> Tensor:
    """s q.k + tile of one tile: q (BH, R, d), k (BH, S', d), tile (B or 1, H or 1, R, S') -> (BH, R, S')."""
    k = k.transpose(1, 2)
    if tile is not None and tile.size(0) * tile.size(1) == q.size(0) and tile.dtype == q.dtype:
        return torch.baddbmm(tile.reshape(q.size(0), *tile.shape[2:]), q, k, alpha=scale)
    logits = torch.bmm(q, k)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).mul_(scale)
    if tile is not None:
        logits.view(-1, heads, *logits.shape[1:]).add_(tile)
    return logits


class TiledAttention(torch.autograd.Function):
    """softmax(s q.k + b) v for a bias that is added."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, size: int, *tensors: Tensor
    ) -> Tensor:
        bias = bias.rebuilt([t.detach() for t in tensors])
        q3, k3, v3 = (t.detach().flatten(0, 1) for t in (q, k, v))
        offset = k3.size(1) - q3.size(1)
        out = torch.empty_like(q3[..., :1].expand(-1, -1, v3.size(-1)), memory_format=torch.contiguous_format)
        for rows in spans(q3.size(1), size):
            stop = offset + rows.stop
            tile = None if isinstance(bias, NoBias) else bias.tile(rows)
            p = masked(additive_logits(q3[:, rows], k3[:, :stop], tile, scale, q.size(1)), rows).softmax(-1)
            torch.bmm(p.to(v3.dtype), v3[:, :stop], out=out[:, rows])
        ctx.save_for_backward(q, k, v, out, *tensors)
        ctx.bias, ctx.scale, ctx.size = bias, scale, size
        return out.view(*q.shape[:-1], v.size(-1))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *tensors = ctx.saved_tensors
        shapes, heads = (q.shape, k.shape, v.shape), q.size(1)
        q, k, v = (t.detach().flatten(0, 1) for t in (q, k, v))
        grad = grad_outputs[0].reshape(out.shape)
        offset = k.size(1) - q.size(1)
        wanted = ctx.needs_input_grad[6:]
        leaves = [t.detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
        sums: list[Tensor | None] = [torch.zeros_like(t) if w else None for t, w in zip(tensors, wanted, strict=True)]
        trained = [leaf for leaf, w in zip(leaves, wanted, strict=True) if w]
        bias = ctx.bias.rebuilt(leaves)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for rows in spans(q.size(1), ctx.size):
            stop = offset + rows.stop
            q_rows, k_past, v_past, grad_rows = q[:, rows], k[:, :stop], v[:, :stop], grad[:, rows]
            with torch.enable_grad():
                tile = None if isinstance(bias, NoBias) else bias.tile(rows)
            plain = None if tile is None else tile.detach()
            p = masked(additive_logits(q_rows, k_past, plain, ctx.scale, heads), rows).softmax(-1)
            dv[:, :stop].baddbmm_(p.to(v.dtype).transpose(1, 2), grad_rows)
            ds = torch.bmm(grad_rows, v_past.transpose(1, 2)).to(p.dtype)
            # The softmax's Jacobian: dS = P * (dP - rowsum(dO * O)).
            ds.sub_((grad_rows * out[:, rows]).sum(-1, keepdim=True)).mul_(p)
            if trained and tile is not None:
                received = ds.view(-1, heads, *ds.shape[1:]).sum_to_size(tile.shape)
                found = iter(torch.autograd.grad(tile, trained, received, allow_unused=True))
                for total in sums:
                    if total is not None and (part := next(found)) is not None:
                        total += part
            ds = ds.to(q.dtype)
            torch.bmm(ds, k_past, out=dq[:, rows])
            dk[:, :stop].baddbmm_(ds.transpose(1, 2), q_rows, alpha=ctx.scale)
        dq.mul_(ctx.scale)
        grads = (g.view(shape) for g, shape in zip((dq, dk, dv), shapes, strict=True))
        return (*grads, None, None, None, *sums)


class TiledScores(torch.autograd.Function):
    """softmax(score(q, k)) v for an encoding that owns its logits; each tile is differentiated as it was written."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, size: int, *tensors: Tensor
    ) -> Tensor:
        bias = bias.rebuilt([t.detach() for t in tensors])
        offset = k.size(2) - q.size(2)
        out = q.new_empty(*q.shape[:-1], v.size(-1))
        for rows in spans(q.size(2), size):
            stop = offset + rows.stop
            # A copy: what `score` gives may be a view of something that the mask must not reach.
            logits = masked(bias.score(q[:, :, rows], k[:, :, :stop], scale, rows).clone(), rows)
            out[:, :, rows] = bias.mix(logits, v[:, :, :stop], rows)
        ctx.save_for_backward(q, k, v, *tensors)
        ctx.bias, ctx.scale, ctx.size = bias, scale, size
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        saved = ctx.saved_tensors
        needed = (*ctx.needs_input_grad[:3], *ctx.needs_input_grad[6:])
        sums = [torch.zeros_like(t) if need else None for t, need in zip(saved, needed, strict=True)]
        offset = saved[1].size(2) - saved[0].size(2)
        for rows in spans(saved[0].size(2), ctx.size):
            stop = offset + rows.stop
            leaves = [t.detach().requires_grad_(need) for t, need in zip(saved, needed, strict=True)]
            q, k, v, *tensors = leaves
            with torch.enable_grad():
                bias = ctx.bias.rebuilt(tensors)
                logits = masked(bias.score(q[:, :, rows], k[:, :, :stop], ctx.scale, rows).clone(), rows)
                out = bias.mix(logits, v[:, :, :stop], rows)
            trained = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
            found = iter(torch.autograd.grad(out, trained, grad[:, :, rows], allow_unused=True))
            for total in sums:
                if total is not None and (part := next(found)) is not None:
                    total += part
        return (*sums[:3], None, None, None, *sums[3:])


def tiles(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, *, rows: int | None = None) -> Tensor:
    """Attention by tiles; shapes as `attend`.

    Args:
        rows: query rows of a tile; chosen by shape where None.
    """
    bias = bias.given(q, k)
    size = rows or rows_per_tile(q.size(0) * q.size(1), k.size(2), q.size(2))
    kind = TiledAttention if bias.additive else TiledScores
    # Under autocast q, k, v arrive in half precision; inside, every dtype is chosen by hand.
    with torch.autocast(q.device.type, enabled=False):
        out: Tensor = kind.apply(q, k, v, bias, scale, size, *bias.tensors())  # type: ignore[no-untyped-call]
    return out
