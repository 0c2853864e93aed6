"""Tiles: blocks of query rows over the keys before them, recomputed in the backward pass. Any bias, linear memory.

Exact attention, a tile of R rows at a time, so that nothing of size T x T is ever kept and the half above the diagonal
is never computed. The backward pass makes each tile again (as FlashAttention does, Dao et al., 2205.14135) in a small
autograd graph of that tile alone: whatever an encoding writes is trained, and no encoding writes a derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.tiling import mask_hidden, rows_per_tile, tile_slices
from extrapo.encodings.core.bias import Bias

#: Calls a function of (group, rows) for tiles in groups: those of one group one at a time, in their order.
Runner = Callable[[Callable[[int, slice], None], Sequence[Sequence[slice]]], None]


class Tiles(Backend):
    """One tile after the other, on any device."""

    name = "tiles"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        return Verdict(True, "blocks of query rows, linear memory")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        return attend_by_tiles(q, k, v, bias, scale, one_after_the_other)


def one_after_the_other(work: Callable[[int, slice], None], groups: Sequence[Sequence[slice]]) -> None:
    """The runner of one thread."""
    for group, tiles in enumerate(groups):
        for rows in tiles:
            work(group, rows)


def attend_by_tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias,
    scale: float,
    run: Runner,
    group: Callable[[Sequence[slice]], Sequence[Sequence[slice]]] = lambda tiles: [tiles],
) -> Tensor:
    """Attention by tiles; shapes as Backend.

    Args:
        run: calls the work of each tile.
        group: parts tiles, the longest first, into groups; gradients are added up group by group, in a group's order.
    """
    # Under autocast q, k, v arrive in half precision; inside, every dtype is chosen by hand.
    with torch.autocast(q.device.type, enabled=False):
        return TiledAttention.apply(q, k, v, bias, scale, run, group, *bias.tensors())  # type: ignore[no-any-return, no-untyped-call]


def attend_rows(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, rows: slice) -> Tensor:
    """The output of one tile: q (B, H, R, d), k and v (B, H, S', d) -> (B, H, R, d)."""
    # A copy: what a scheme gives may be a view of something that the mask must not reach.
    logits = mask_hidden(bias.score_rows(q, k, scale, rows).clone(), bias.visibility())
    return bias.mix(logits, v, rows)


class TiledAttention(torch.autograd.Function):
    """mix(score_rows(q, k)), tile by tile; each is differentiated as it was written, by a graph of its own."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, run: Runner, group: Any, *tensors: Tensor
    ) -> Tensor:
        bias = bias.rebuilt([t.detach() for t in tensors])
        offset = k.size(2) - q.size(2)
        out = q.new_empty(*q.shape[:-1], v.size(-1))
        size = rows_per_tile(q.size(0) * q.size(1), k.size(2), q.size(2), cached=q.is_cpu)
        ctx.groups = group(tile_slices(q.size(2), size)[::-1])

        def work(group: int, rows: slice) -> None:
            past = slice(0, offset + rows.stop)
            out[:, :, rows] = attend_rows(q[:, :, rows], k[:, :, past], v[:, :, past], bias, scale, rows)

        run(work, ctx.groups)
        ctx.save_for_backward(q, k, v, *tensors)
        ctx.bias, ctx.scale, ctx.run = bias, scale, run
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        q, k, v, *tensors = ctx.saved_tensors
        needed = (*ctx.needs_input_grad[:3], *ctx.needs_input_grad[7:])
        offset = k.size(2) - q.size(2)
        sums = [
            [torch.zeros_like(t) if need else None for t, need in zip((q, k, v, *tensors), needed, strict=True)]
            for _ in ctx.groups
        ]

        def work(group: int, rows: slice) -> None:
            # Leaves of the bias are whole tensors, those of q, k, v the parts that the tile reads.
            past = slice(0, offset + rows.stop)
            inputs = (q[:, :, rows], k[:, :, past], v[:, :, past], *tensors)
            leaves = [t.detach().requires_grad_(need) for t, need in zip(inputs, needed, strict=True)]
            with torch.enable_grad():
                bias = ctx.bias.rebuilt(leaves[3:])
                out = attend_rows(leaves[0], leaves[1], leaves[2], bias, ctx.scale, rows)
            trained = [leaf for leaf in leaves if leaf.requires_grad]
            grads = iter(torch.autograd.grad(out, trained, grad[:, :, rows], allow_unused=True))
            parts = (rows, past, past, *(None for _ in tensors))
            for total, part in zip(sums[group], parts, strict=True):
                if total is not None and (received := next(grads)) is not None:
                    total = total if part is None else total[:, :, part]
                    total += received

        ctx.run(work, ctx.groups)
        totals = [None if part[0] is None else sum(part[1:], part[0]) for part in zip(*sums, strict=True)]
        return (*totals[:3], None, None, None, None, *totals[3:])
