"""Tiles: blocks of query rows over the keys before them, recomputed in the backward pass. Any bias, linear memory.

Exact attention, a tile of R rows at a time, so that nothing of size T x T is ever kept and the half above the diagonal
is never computed. The forward pass keeps the output alone; the backward pass makes each tile again (as FlashAttention
does, Dao et al., 2205.14135; here a softmax costs no more than the exp of what a row might have kept) and sends the
gradient of its logits into the bias through a small autograd graph of that tile alone: whatever an encoding writes in
`tile` or `score` is trained, and no encoding writes a derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from extrapo.attention.bias_tiles import BiasTiles, BiasWorker
from extrapo.attention.scores import TiledScores
from extrapo.attention.spans import masked, rows_per_tile, spans
from extrapo.attention.workers import share, worker_count
from extrapo.encodings.bias import Bias


def rows_of(x: Tensor) -> Tensor:
    """(B, H, N, d) -> (BH, N, d), detached, in float32 at least: half precision is how q, k, v are kept, no more."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32)).flatten(0, 1)


class Workspace:
    """One worker's memory: every tile that it makes is made in the same place.

    Args:
        q: (BH, T, d) queries, times s.
        k: (BH, S, d) keys.
        heads: H.
        size: rows of a full tile.
    """

    def __init__(self, q: Tensor, k: Tensor, heads: int, size: int) -> None:
        self.q, self.k, self.heads = q, k, heads
        room = q.size(0) * min(size, q.size(1)) * k.size(1)
        self.scores, self.weights = q.new_empty(room), q.new_empty(room)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a b^T of (BH, R, d) and (BH, S', d), (BH, R, S'): overwrites the last product."""
        found = self.scores[: a.size(0) * a.size(1) * b.size(1)].view(a.size(0), a.size(1), b.size(1))
        return torch.bmm(a, b.transpose(1, 2), out=found)

    def softmax(self, tile: Tensor | None, rows: slice) -> Tensor:
        """softmax(s q.k + tile) of these rows, (BH, R, S'): overwrites the last one, and the last product."""
        stop = self.k.size(1) - self.q.size(1) + rows.stop
        logits = self.product(self.q[:, rows], self.k[:, :stop])
        if tile is not None:
            by_head(logits, self.heads).add_(tile)
        found = self.weights[: logits.numel()].view_as(logits)
        # Not exp of what a row keeps: MKL's exp takes seven times as long where it underflows.
        return torch.softmax(masked(logits), dim=-1, out=found)


def by_head(x: Tensor, heads: int) -> Tensor:
    """(BH, ...) -> (B, H, ...)."""
    return x.view(-1, heads, *x.shape[1:])


class TiledAttention(torch.autograd.Function):
    """softmax(s q.k + b) v for a bias that is added."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, size: int, *tensors: Tensor
    ) -> Tensor:
        q3, k3, v3 = rows_of(q).mul(scale), rows_of(k), rows_of(v)
        shared = BiasTiles(bias, [tensor.detach() for tensor in tensors], size)
        out = v3.new_empty(*q3.shape[:-1], v3.size(-1))
        tiles = spans(q3.size(1), size)
        workers = worker_count(q.device, len(tiles))

        def work(worker: int) -> None:
            space, biases = Workspace(q3, k3, q.size(1), size), BiasWorker(shared)
            for rows in tiles[worker::workers]:
                p = space.softmax(biases.tile(rows), rows)
                torch.bmm(p, v3[:, : p.size(-1)], out=out[:, rows])

        share(work, workers)
        ctx.save_for_backward(q, k, v, out, *tensors)
        ctx.bias, ctx.scale, ctx.size = bias.rebuilt([tensor.detach() for tensor in tensors]), scale, size
        return out.view(*q.shape[:-1], v.size(-1)).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *tensors = ctx.saved_tensors
        leaves = [t.detach().requires_grad_(w) for t, w in zip(tensors, ctx.needs_input_grad[6:], strict=True)]
        q3, k3, v3, grad = rows_of(q).mul(ctx.scale), rows_of(k), rows_of(v), rows_of(grad_outputs[0])
        shared = BiasTiles(ctx.bias, leaves, ctx.size)
        # The softmax's Jacobian: dS = P * (dP - rowsum(dO * O)).
        towards = (grad * out).sum(-1, keepdim=True)
        dq = torch.empty_like(q3)
        tiles = spans(q3.size(1), ctx.size)
        workers = worker_count(q.device, len(tiles))
        takers = [BiasWorker(shared) for _ in range(workers)]
        dks, dvs = ([torch.zeros_like(x) for _ in range(workers)] for x in (k3, v3))

        def work(worker: int) -> None:
            space, taker = Workspace(q3, k3, q.size(1), ctx.size), takers[worker]
            for rows in tiles[worker::workers]:
                p = space.softmax(taker.tile(rows), rows)
                past = slice(0, p.size(-1))
                dvs[worker][:, past].baddbmm_(p.transpose(1, 2), grad[:, rows])
                ds = space.product(grad[:, rows], v3[:, past]).sub_(towards[:, rows]).mul_(p)
                taker.take(by_head(ds, q.size(1)), rows)
                torch.bmm(ds, k3[:, past], out=dq[:, rows])
                dks[worker][:, past].baddbmm_(ds.transpose(1, 2), q3[:, rows])

        share(work, workers)
        found = (dq.mul_(ctx.scale), sum(dks[1:], dks[0]), sum(dvs[1:], dvs[0]))
        grads = (g.view(x.shape).to(x.dtype) for g, x in zip(found, (q, k, v), strict=True))
        return (*grads, None, None, None, *shared.gradients(takers))


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
