"""Folded forward, back by tiles: a trained bias of low rank, on a CPU.

PyTorch's fused attention takes columns by eights, in q, k, v and both ways of the output, and texts of some 500 tokens
in blocks of 64 queries. Tiles take as many columns as there are, in q and k alone; and as q' and k' carry the bias,
nothing else is added: one compiled body serves every bias of the kind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from extrapo.attention import key_bias
from extrapo.attention.columns import common_width, widened
from extrapo.attention.cpu.compiler import worthwhile
from extrapo.attention.cpu.tiles import Plan, gradients, rows_of
from extrapo.encodings.core.bias import NoBias
from extrapo.kernels.base import Columns, UnitColumns

#: Where gradients are faster so: logits of an attention, B x H x T^2, over what compiling needs to pay; queries; and
#: threads, whose every call waits for the others to leave Python. Measured with two threads: 128 to 8,192 tokens, heads
#: of 16 to 128, torch 2.13.
LARGE, LONGEST, MOST_THREADS = 2, 4096, 8


def trains_by_tiles(q: Tensor, columns: Columns | None) -> bool:
    """Whether the gradients of a fold of these columns, for queries (B, H, T, d) and as many keys, go by tiles."""
    if columns is None or not torch.is_grad_enabled() or not any(x.requires_grad for x in columns):
        return False
    if q.dtype.itemsize == 2 or q.size(-2) > LONGEST or torch.get_num_threads() > MOST_THREADS:
        return False
    return worthwhile(q.device, q.size(0) * q.size(1) * q.size(2) ** 2 // LARGE)


def fold_tiles(q: Tensor, k: Tensor, v: Tensor, columns: Columns, scale: float) -> Tensor:
    """Causal softmax(s q.k + u.w) v, shapes as `attend`, as many queries as keys."""
    u, w = (x.to(q.dtype).expand(*q.shape[:-1], -1) for x in columns)
    of_keys = isinstance(columns, UnitColumns) and q.size(-1) == v.size(-1)
    return FoldTiles.apply(q, k, v, u, w, scale, of_keys)  # type: ignore[no-any-return, no-untyped-call]


class FoldTiles(torch.autograd.Function):
    """See `fold_tiles`; `of_keys` says that u is 1 and the fused kernel may take w beside q and k."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, u: Tensor, w: Tensor, scale: float, of_keys: bool) -> Tensor:
        if of_keys:
            out, lse = key_bias.forward(q, k, v, w, scale)[3:]
        else:
            width = common_width(q.size(-1) + u.size(-1), v.size(-1))
            wide = widened(q, u / scale, width), widened(k, w, width), widened(v, None, width)
            out, lse = key_bias.attention(*wide, 0.0, True, scale=scale)
            out = out[..., : v.size(-1)]
        ctx.save_for_backward(q, k, v, u, w, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, u, w, out, lse = ctx.saved_tensors
        (_, heads, length, head), scale = q.shape, ctx.scale
        width = head + u.size(-1)
        wide = widened(q, u / scale, width), widened(k, w, width), v
        carried = NoBias(heads, length, length, q.device)
        kept = lse.flatten(0, 1).unsqueeze(-1)
        plan = Plan(None, compiled=True)
        (dq, dk, dv), _ = gradients(*wide, rows_of(out), kept, grad_outputs[0], carried, [], scale, plan)
        return dq[..., :head], dk[..., :head], dv, dq[..., head:] / scale, dk[..., head:], None, None
