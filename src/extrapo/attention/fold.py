"""Fold: a bias of low rank as extra columns of q and k, then the stock fused attention. Exact, linear in memory.

A position loses digits with its distance to where it is measured from. In float32 a number of each key, S_j, is
therefore four columns, a coarse part and the rest of S_j and of -S_i: the coarse parts are whole multiples of one
number, their sum is exact, and all that is added to it is small. What is lost is relative to the distance, as in tiles:
3e-7 of outputs of size 1 at 131,072 tokens (`alibi`, `cable`, `fox`; one column: 9e-4). It needs a kernel that adds up
a dot product in its order, as PyTorch's forward pass was measured to do on one CPU (Intel, AVX-512); on a GPU this was
not measured. The backward pass does not, and positions above 4,096 are then left to tiles. Columns that are gated lose
digits with the length, and are not taken beyond what float32 keeps to 1e-5.

In half precision a column keeps 8 or 11 bits. Each column is then a sum of three parts, the number rounded, what that
left, rounded, and so on: their products that matter are six columns, added up in float32 inside the fused kernel. What
is left of the error is float32's, 2^-24 of the largest position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.kernels.base import KeyBias, LowRank

#: Parts of a number in half precision; products of parts that are smaller than 2^-24 of the whole are left out.
PARTS = 3
PRODUCTS = [(a, b) for a in range(PARTS) for b in range(PARTS) if a + b < PARTS]

#: Columns of w are kept below 2^15, what float16 can hold; u takes up the rest.
LARGEST_EXPONENT = 15

#: Bits of a coarse part: the sum of two keeps them in float32.
COARSE_BITS = 22

#: What columns may add to a logit in float32, whose step there is 1.5e-5, half of it rounding; and, where they are
#: trained, one of them alone: gradients of what grows with the position are small differences of its multiples.
LARGEST, LARGEST_TRAINED = 128.0, 4.0

#: Numbers of keys up to which the stock backward passes, which add up in another order than the forward ones, keep the
#: gradients of q, k and v near 6e-5: in proportion to the 1.9e-4 that was measured at 12,288.
LARGEST_BACKWARD = 4096.0


class Fold(Backend):
    """q' = [q, u / s] and k' = [k, w] under the scale of the original width."""

    name = "fold"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if bias.visibility() is not None:
            return Verdict(False, "the stock fused attention has no windows")
        columns = bias.low_rank() if isinstance(bias, Elementwise) else None
        if columns is None:
            owner = "the bias has full rank" if isinstance(bias, Elementwise) else "the encoding owns its logits"
            return Verdict(False, owner)
        if not columns.u.size(-1):
            return Verdict(True, "no bias: the stock fused attention as it is")
        if q.dtype.itemsize == 2 and not keeps_precision(columns):
            half = str(q.dtype).removeprefix("torch.")
            return Verdict(False, f"in {half} the gradients of folded columns would be lost")
        if q.dtype == torch.float32 and (why := lost_digits(columns, q, k)) is not None:
            return Verdict(False, why)
        return Verdict(True, "the bias has low rank: extra columns of q and k, then the stock fused attention")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        columns = bias.low_rank() if isinstance(bias, Elementwise) else None
        assert columns is not None
        columns = folded(columns, q.dtype, q.size(-2), scale)
        queries, keys, width = q.size(-2), k.size(-2), v.size(-1)
        if (rank := columns.u.size(-1)) or q.size(-1) != width:
            common = common_width(q.size(-1) + rank, width)
            q, k, v = with_columns(q, columns.u, common), with_columns(k, columns.w, common), pad(v, common)
        if queries == keys:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        elif queries == 1:
            out = F.scaled_dot_product_attention(q, k, v, scale=scale)
        else:
            visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril_(keys - queries)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
        return out[..., :width]


def folded(columns: LowRank, dtype: torch.dtype, queries: int, scale: float) -> LowRank:
    """What stands beside q and k of `dtype`, for a scale s of their product and the last `queries` of the keys."""
    if isinstance(columns, KeyBias) and dtype == torch.float32:
        return coarse_and_rest(columns.w / scale, queries)
    columns = LowRank(columns.u / scale, columns.w)
    return split(columns, dtype) if dtype.itemsize == 2 and columns.u.size(-1) else columns


def coarse_and_rest(w: Tensor, queries: int) -> LowRank:
    """Columns in float32 whose product is w_j - w_i, exact to 2^-24 of itself where it is added up in order.

    Args:
        w: (B or 1, H or 1, S, 1) a number of each key, in a wide dtype.
        queries: T, the queries being the last of the keys.
    """
    step = 2.0 ** (torch.frexp(w.detach().abs().amax()).exponent - COARSE_BITS)
    coarse = (w.detach() / step).round() * step
    rest = (w.detach() - coarse).float()
    # The gradient is that of the coarse part: the other factor is 1 for both.
    coarse = w.float() + (coarse.float() - w.detach().float())
    one, first = torch.ones_like(rest), w.size(-2) - queries
    of_rows = one[..., first:, :], -coarse[..., first:, :], one[..., first:, :], -rest[..., first:, :]
    return LowRank(torch.cat(of_rows, dim=-1), torch.cat([coarse, one, rest, one], dim=-1))


def lost_digits(columns: LowRank, q: Tensor, k: Tensor) -> str | None:
    """Why folded columns do not serve q and k of float32 to 1e-5, forward, or to 1e-4 backward; None where they do."""
    trained = is_trained(columns)
    size = columns.u.detach().abs().amax((0, 1, 2)) * columns.w.detach().abs().amax((0, 1, 2))
    if isinstance(columns, KeyBias):
        backward = trained or (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad))
        far = backward and float(size) > LARGEST_BACKWARD
        return "in float32 gradients would lose digits to the length of the text" if far else None
    if (trained and float(size.amax()) > LARGEST_TRAINED) or float(size.sum()) > LARGEST:
        return "in float32 these columns would lose digits to the length of the text"
    return None


def is_trained(columns: LowRank) -> bool:
    """Whether gradients flow to them."""
    return torch.is_grad_enabled() and (columns.u.requires_grad or columns.w.requires_grad)


def keeps_precision(columns: LowRank) -> bool:
    """Whether folded columns serve q and k of half precision, forward and backward.

    The outputs are as good as half precision allows, the gradients of the columns are not: the fused kernels round
    dS, and its sums along keys, to 8 or 11 bits, and what trains contextual positions or a gate is a small difference
    of many such sums (bfloat16, 2,048 tokens: 5% off for the input of `cable`, half of it for a bias). A rank above 1
    may have large terms that cancel, and does not serve either.
    """
    if columns.u.size(-1) > 1:
        return False
    return not is_trained(columns)


def common_width(*widths: int) -> int:
    """The width, a multiple of 8, that q', k' and v share: where one is narrower, the fused path is left on a CPU."""
    return 8 * math.ceil(max(widths) / 8)


def with_columns(x: Tensor, columns: Tensor, width: int) -> Tensor:
    """[columns, x, zeros] of (B, H, N, d) and (B or 1, H or 1, N, r), (B, H, N, width), in one copy.

    In this order: what the first columns add up to is known when the products of q and k, with digits of their own,
    come to it.
    """
    columns = columns.to(x.dtype).expand(*x.shape[:-1], columns.size(-1))
    zeros = x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1) - columns.size(-1))
    return torch.cat([columns, x, zeros], dim=-1)


def pad(x: Tensor, width: int) -> Tensor:
    """[x, zeros] of (B, H, N, d), (B, H, N, width), in one copy."""
    return torch.cat([x, x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1))], dim=-1)


def split(columns: LowRank, dtype: torch.dtype) -> LowRank:
    """The same product u . w from numbers that `dtype` can hold: six columns for each."""
    exponent = torch.frexp(columns.w.detach().abs().amax(dim=-2, keepdim=True)).exponent
    shift = (exponent - LARGEST_EXPONENT).clamp_min(0)
    power = 2.0**shift
    u, w = parts(columns.u * power, dtype), parts(columns.w / power, dtype)
    return LowRank(torch.cat([u[a] for a, _ in PRODUCTS], dim=-1), torch.cat([w[b] for _, b in PRODUCTS], dim=-1))


def parts(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Numbers of `dtype` whose sum is `x`, in the dtype of `x`; the gradient of `x` is that of the first, which meets
    every part of the other factor.
    """
    terms, rest = [], x.detach()
    for _ in range(PARTS):
        terms.append(rest.to(dtype).to(x.dtype))
        rest = rest - terms[-1]
    return [x + (terms[0] - x).detach(), *terms[1:]]
