"""Operator: attention under a formula as an operator of PyTorch, with its derivative, and shapes without numbers.

So a compiler, a checkpoint of activations or a sharded model sees one operation, and no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.gpu.gradients import Gradients
from extrapo.attention.gpu.kernels import Launch

ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor[] factors, str name, str trained, float scale, str windows"


def tokens_first(like: Tensor, batch: int, heads: int, length: int, width: int) -> Tensor:
    """(B, H, N, width), in memory as a model's projections read it: all heads of a token side by side."""
    return like.new_empty(batch, length, heads, width).transpose(1, 2)


@torch.library.custom_op("extrapo::attention", mutates_args=(), schema=f"({ARGUMENTS}) -> (Tensor, Tensor)")
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factors: Sequence[Tensor],
    name: str,
    trained: str,
    scale: float,
    windows: str,
) -> tuple[Tensor, Tensor]:
    """softmax(logits) v, (B, H, T, e), and the logarithm of each row's sum, (B, H, T); arguments as Launch."""
    out, lse = shapes(q, k, v, factors, name, trained, scale, windows)
    Launch(q, k, v, factors, name, trained, scale, windows).forward(out, lse)
    return out, lse


@attention.register_fake
def shapes(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factors: Sequence[Tensor],
    name: str,
    trained: str,
    scale: float,
    windows: str,
) -> tuple[Tensor, Tensor]:
    """What `attention` gives, without its numbers."""
    batch, heads, queries, _ = q.shape
    out = tokens_first(q, batch, heads, queries, v.size(-1))
    return out, q.new_empty(batch, heads, queries, dtype=torch.float32)


@torch.library.custom_op(
    "extrapo::attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor out, Tensor lse, {ARGUMENTS}) -> Tensor[]",
)
def attention_backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factors: Sequence[Tensor],
    name: str,
    trained: str,
    scale: float,
    windows: str,
) -> list[Tensor]:
    """The gradients of q, k, v and those of trained factors, see `Gradients.shapes`."""
    dq, dk, dv = (tokens_first(x, *x.shape) for x in (q, k, v))
    sums = Launch(q, k, v, factors, name, trained, scale, windows).backward(grad, out, lse, dq, dk, dv)
    return [dq, dk, dv, *sums]


@attention_backward.register_fake
def shapes_backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factors: Sequence[Tensor],
    name: str,
    trained: str,
    scale: float,
    windows: str,
) -> list[Tensor]:
    """What `attention_backward` gives, without its numbers."""
    sums = Gradients.of(name, trained, factors).shapes(lse, k.size(2))
    return [*(tokens_first(x, *x.shape) for x in (q, k, v)), *sums]


def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """What the backward pass reads."""
    q, k, v, factors, *ctx.rest = inputs
    ctx.mark_non_differentiable(output[1])
    # What nobody asked a gradient of gets none, and no zeros.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output, q, k, v, *factors)


def backward(ctx: Any, grad: Tensor, of_lse: Tensor | None) -> tuple[Any, ...]:
    """The gradients of the arguments of `attention`."""
    out, lse, q, k, v, *factors = ctx.saved_tensors
    name, trained, scale, windows = ctx.rest
    dq, dk, dv, *sums = attention_backward(grad, out, lse, q, k, v, factors, name, trained, scale, windows)
    gradients = Gradients.of(name, trained, factors)
    found = gradients.returned(sums)
    of_factors: list[Tensor | None] = [None] * len(factors)
    for n, place in enumerate(gradients.places):
        of_factors[place] = found.get(n, of_factors[place])
    return dq, dk, dv, of_factors, None, None, None, None


attention.register_autograd(backward, setup_context=keep)
