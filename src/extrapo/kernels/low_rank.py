"""LowRank: a bias as a product of columns, and such columns in numbers of fewer digits, which keep the product."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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


class LowRank(NamedTuple):
    """A bias as a product: b_ij = u_i . w_j + (a term of the row alone, which cancels in the softmax)."""

    u: Tensor  # (B or 1, H or 1, T, r)
    w: Tensor  # (B or 1, H or 1, S, r)

    def row(self) -> Tensor:
        """b of the only query, (B or 1, H or 1, 1, S), of one column."""
        return self.u * self.w.transpose(-1, -2)


class KeyBias(LowRank):
    """One column, of which u is 1 everywhere: the bias is a number of each key."""

    def row(self) -> Tensor:
        return self.w.transpose(-1, -2)


def is_trained(columns: LowRank) -> bool:
    """Whether gradients flow to them."""
    return torch.is_grad_enabled() and (columns.u.requires_grad or columns.w.requires_grad)


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
