"""A bias of low rank on a CPU: beside the keys, inside PyTorch's fused attention; a trained one goes back by tiles.

ALiBi, Cable and the Forgetting Transformer add a number of each key, up to a term of the row. Where the portable fold
widens q, k and v by a column, and with it every product of the kernel to the next vector's width, the fused kernel
takes a number per key for nothing, in its own float32 whatever the dtype of q. It is a mask to it, which it does not
differentiate: a bias that is trained goes back through the fold's columns, or by tiles.

A number of each key loses digits where it is large: beside the keys it stands up to 128, which keeps outputs of size 1
to 1e-5, beyond that as the fold's columns. Trained, it always does: gradients are small differences of its multiples.

PyTorch's fused attention takes columns by eights, in q, k, v and both ways of the output, and texts of some 500 tokens
in blocks of 64 queries. Tiles take as many columns as there are, in q and k alone; and as q' and k' carry the bias,
nothing else is added: one compiled tile serves every bias of low rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.cpu.buffers import keep_freed_memory
from extrapo.attention.cpu.compiler import should_compile
from extrapo.attention.cpu.private import fused_attention, fused_attention_backward, is_tested
from extrapo.attention.cpu.tiled_attention import rows_of, tile_gradients
from extrapo.attention.fold import Fold, common_width, folded, pad, with_columns
from extrapo.encodings.core.bias import Bias, Elementwise, NoBias
from extrapo.kernels.low_rank import LARGEST, KeyBias, LowRank, is_trained, lost_digits


class CPUFold(Backend):
    """The fused attention of a CPU with a number of each key beside it, and gradients by compiled tiles."""

    name = "cpu-fold"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if not q.is_cpu or not 1 < q.size(-2) == k.size(-2):
            return Verdict(False, "it is for a whole text on a CPU")
        columns = bias.low_rank() if isinstance(bias, Elementwise) and bias.visibility() is None else None
        if columns is None:
            return Verdict(False, "the bias is no product of columns for all pairs")
        if not is_tested():
            return Verdict(False, "this version of PyTorch is not one that it was tested with")
        if q.dtype == torch.float32 and (why := lost_digits(columns, q, k)) is not None:
            return Verdict(False, why)
        if trains_by_tiles(q, columns):
            return Verdict(
                True, "the bias has low rank: fused attention, back by tiles; the first backward pass compiles its loop"
            )
        if not isinstance(columns, KeyBias):
            return Verdict(False, "the bias is more than a number of each key, and is not trained by tiles")
        if q.dtype.itemsize == 2 and torch.is_grad_enabled() and columns.w.requires_grad:
            half = str(q.dtype).removeprefix("torch.")
            return Verdict(False, f"in {half} the gradient of the bias would be lost")
        if q.dtype == torch.float32 and (is_trained(columns) or float(columns.w.detach().abs().amax()) > LARGEST):
            return Verdict(False, "in float32 a number of each key needs more than one column here")
        return Verdict(True, "the bias has low rank: a number of each key, in the stock fused attention")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        keep_freed_memory()
        columns = bias.low_rank() if isinstance(bias, Elementwise) else None
        assert columns is not None
        if trains_by_tiles(q, columns):
            return train_by_tiles(q, k, v, columns, scale)
        if q.size(-1) != v.size(-1):
            # The kernel wants one width, and columns make one.
            return Fold()(q, k, v, bias, scale=scale)
        key_bias = columns.w.to(torch.promote_types(q.dtype, torch.float32)).expand(*k.shape[:-1], 1)
        return KeyBiasAttention.apply(q, k, v, key_bias, scale)  # type: ignore[no-any-return, no-untyped-call]


def trains_by_tiles(q: Tensor, columns: LowRank) -> bool:
    """Whether the gradients of a bias of these columns, for queries (B, H, T, d) and as many keys, go by tiles."""
    if not torch.is_grad_enabled() or not any(x.requires_grad for x in columns):
        return False
    # In half precision the gradient of the bias would be lost.
    return q.dtype.itemsize > 2 and should_compile(q.size(0) * q.size(1) * q.size(2) ** 2)


def with_key_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> list[Tensor]:
    """q, k and v as the kernel reads them, its output (B, H, T, d) and each row's log-sum-exp (B, H, T).

    Args:
        q, k, v: (B, H, T, d) each.
        bias: (B, H, T, 1), a number of each key.
        scale: s.
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    return [q, k, v, *fused_attention(q, k, v, bias.transpose(-1, -2), scale)]


class KeyBiasAttention(torch.autograd.Function):
    """Causal softmax(s q.k + b) v of (B, H, T, d) each, b (B, H, T, 1) float32 at least; back through columns."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
        *qkv, out, lse = with_key_bias(q, k, v, bias, scale)
        ctx.save_for_backward(*qkv, bias, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        q, k, v, bias, out, lse = ctx.saved_tensors
        if not ctx.needs_input_grad[3]:
            key_bias = bias.transpose(-1, -2)
            return (*fused_attention_backward(grad, q, k, v, out, lse, key_bias, ctx.scale), None, None)
        head = q.size(-1)
        width = common_width(head + 1)
        one = q.new_full((1, 1, 1, 1), 1 / ctx.scale)
        q, k = with_columns(q, one, width), with_columns(k, bias, width)
        v, out, grad = (pad(x, width) for x in (v, out, grad))
        dq, dk, dv = fused_attention_backward(grad, q, k, v, out, lse, None, ctx.scale)
        return dq[..., 1 : 1 + head], dk[..., 1 : 1 + head], dv[..., :head], dk[..., :1], None


def train_by_tiles(q: Tensor, k: Tensor, v: Tensor, columns: LowRank, scale: float) -> Tensor:
    """Causal softmax(s q.k + u.w) v; shapes as Backend, as many queries as keys."""
    u, w = (x.to(q.dtype).expand(*q.shape[:-1], -1) for x in folded(columns, q.dtype, q.size(-2), scale))
    return TileTrainedAttention.apply(q, k, v, u, w, scale)  # type: ignore[no-any-return, no-untyped-call]


class TileTrainedAttention(torch.autograd.Function):
    """Causal softmax(s (q.k + u.w)) v, back by tiles."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, u: Tensor, w: Tensor, scale: float) -> Tensor:
        width = common_width(q.size(-1) + u.size(-1), v.size(-1))
        wide = with_columns(q, u, width), with_columns(k, w, width), pad(v, width)
        out, lse = fused_attention(*wide, None, scale)
        out = out[..., : v.size(-1)]
        ctx.save_for_backward(q, k, v, u, w, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, u, w, out, lse = ctx.saved_tensors
        (_, heads, length, head), rank = q.shape, u.size(-1)
        wide = with_columns(q, u, head + rank), with_columns(k, w, head + rank), v
        # The columns carry the bias.
        no_bias = NoBias(heads, length, length, q.device)
        (dq, dk, dv), _ = tile_gradients(
            *wide, rows_of(out), lse.flatten(0, 1).unsqueeze(-1), grad_outputs[0], no_bias, [], ctx.scale, compiled=True
        )
        return dq[..., rank:], dk[..., rank:], dv, dq[..., :rank], dk[..., :rank], None
