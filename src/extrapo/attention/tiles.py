"""Tiles of encodings that own their logits: each is differentiated as it was written, by a graph of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from extrapo.attention.tiling import masked, spans
from extrapo.attention.cpu.parallel import chains, share, share_chains, worker_count
from extrapo.encodings.core.bias import Bias


def mixed(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, rows: slice) -> Tensor:
    """The output of one tile: q (B, H, R, d), k and v (B, H, S', d) -> (B, H, R, d)."""
    # A copy: what `score` gives may be a view of something that the mask must not reach.
    return bias.mix(masked(bias.score(q, k, scale, rows).clone()), v, rows)


class TiledScores(torch.autograd.Function):
    """softmax(score(q, k)) v, or what `mix` makes of the scores."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, size: int, *tensors: Tensor
    ) -> Tensor:
        bias = bias.rebuilt([t.detach() for t in tensors])
        offset = k.size(2) - q.size(2)
        out = q.new_empty(*q.shape[:-1], v.size(-1))
        tiles = spans(q.size(2), size)[::-1]
        workers = worker_count(q.device, len(tiles))
        queue = iter(tiles)

        def work(worker: int) -> None:
            for rows in queue:
                past = slice(0, offset + rows.stop)
                out[:, :, rows] = mixed(q[:, :, rows], k[:, :, past], v[:, :, past], bias, scale, rows)

        share(work, workers)
        ctx.save_for_backward(q, k, v, *tensors)
        ctx.bias, ctx.scale, ctx.size = bias, scale, size
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        q, k, v, *tensors = ctx.saved_tensors
        needed = (*ctx.needs_input_grad[:3], *ctx.needs_input_grad[6:])
        offset = k.size(2) - q.size(2)
        tiles = spans(q.size(2), ctx.size)[::-1]
        workers = worker_count(q.device, len(tiles))
        parts = chains(tiles, workers)
        sums = [
            [torch.zeros_like(t) if need else None for t, need in zip((q, k, v, *tensors), needed, strict=True)]
            for _ in parts
        ]

        def work(worker: int, chain: int, rows: slice) -> None:
            # Leaves of the bias are whole tensors, those of q, k, v the parts that the tile reads.
            rest = [t.detach().requires_grad_(need) for t, need in zip(tensors, needed[3:], strict=True)]
            past = slice(0, offset + rows.stop)
            read = (q[:, :, rows], k[:, :, past], v[:, :, past])
            leaves = [t.detach().requires_grad_(need) for t, need in zip(read, needed[:3], strict=True)]
            with torch.enable_grad():
                out = mixed(leaves[0], leaves[1], leaves[2], ctx.bias.rebuilt(rest), ctx.scale, rows)
            leaves += rest
            trained = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
            found = iter(torch.autograd.grad(out, trained, grad[:, :, rows], allow_unused=True))
            places = (rows, past, past, *(None for _ in rest))
            for total, place in zip(sums[chain], places, strict=True):
                if total is not None and (part := next(found)) is not None:
                    total = total if place is None else total[:, :, place]
                    total += part

        share_chains(work, parts, workers)
        totals = [None if found[0] is None else sum(found[1:], found[0]) for found in zip(*sums, strict=True)]
        return (*totals[:3], None, None, None, *totals[3:])
