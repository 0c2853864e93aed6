"""Key bias: a bias of the key alone, up to a term of the row, added inside PyTorch's fused attention on a CPU.

ALiBi, Cable and the Forgetting Transformer are of this kind. Where a fold widens q, k and v by a column, and with it
every product of the kernel to the next vector's width, the fused kernel takes a number per key for nothing, in its own
float32 whatever the dtype of q. It is a mask to it, which it does not differentiate: a bias that is trained goes back
through the fold's columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from extrapo.attention.columns import common_width, widened

# PyTorch's function refuses a mask beside its flag for causality; the operators below it take both.
attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def key_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Causal softmax(s q.k + b) v of (B, H, T, d) each; b (B, H, T, 1) is a number of each key, float32 at least."""
    return KeyBias.apply(q, k, v, bias, scale)  # type: ignore[no-any-return, no-untyped-call]


def can_add_to_keys(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> bool:
    """Whether the fused kernel of a CPU takes these: as many queries as keys, and all of one width.

    What is trained needs its gradient in more than half precision.
    """
    if not (q.is_cpu and k.is_cpu and v.is_cpu and q.size(-2) == k.size(-2) > 1 and q.size(-1) == v.size(-1)):
        return False
    return q.dtype.itemsize > 2 or not (torch.is_grad_enabled() and bias.requires_grad)


def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> list[Tensor]:
    """q, k and v as the kernel reads them, its output (B, H, T, d) and each row's log-sum-exp (B, H, T)."""
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    return [q, k, v, *attention(q, k, v, 0.0, True, attn_mask=bias.transpose(-1, -2), scale=scale)]


class KeyBias(torch.autograd.Function):
    """See `key_attention`; back through columns."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
        *qkv, out, lse = forward(q, k, v, bias, scale)
        ctx.save_for_backward(*qkv, bias, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        q, k, v, bias, out, lse = ctx.saved_tensors
        settings = {"dropout_p": 0.0, "is_causal": True, "scale": ctx.scale}
        if not ctx.needs_input_grad[3]:
            mask = bias.transpose(-1, -2)
            return (*attention_backward(grad, q, k, v, out, lse, **settings, attn_mask=mask), None, None)
        head = q.size(-1)
        width = common_width(head + 1)
        one = q.new_full((1, 1, 1, 1), 1 / ctx.scale)
        wide = (widened(q, one, width), widened(k, bias, width), *(widened(x, None, width) for x in (v, out)))
        dq, dk, dv = attention_backward(widened(grad, None, width), *wide, lse, **settings)
        return dq[..., :head], dk[..., :head], dv[..., :head], dk[..., head : head + 1], None
