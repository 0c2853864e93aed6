"""Columns beside q, k and v: one copy with all that a fused kernel is to read, and numbers in parts for half precision.

In half precision a column keeps 8 or 11 bits, and positions need more. Each column is then a sum of three parts, the
number rounded, what that left, rounded, and so on: their products that matter are six columns, added up in float32
inside the fused kernel. What is left of the error is float32's, 2^-24 of the largest position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from extrapo.kernels.base import Columns

#: Parts of a number in half precision; products of parts that are smaller than 2^-24 of the whole are left out.
PARTS = 3
PRODUCTS = [(a, b) for a in range(PARTS) for b in range(PARTS) if a + b < PARTS]

#: Columns of w are kept below 2^15, what float16 can hold; u takes up the rest.
LARGEST_EXPONENT = 15


def common_width(*widths: int) -> int:
    """The width, a multiple of 8, that q', k' and v share: where one is narrower, the fused path is left on a CPU."""
    return 8 * math.ceil(max(widths) / 8)


def split(columns: Columns, dtype: torch.dtype) -> Columns:
    """The same product u . w from numbers that `dtype` can hold: six columns for each."""
    exponent = torch.frexp(columns.w.detach().abs().amax(dim=-2, keepdim=True)).exponent
    shift = (exponent - LARGEST_EXPONENT).clamp_min(0)
    power = 2.0**shift
    u, w = parts(columns.u * power, dtype), parts(columns.w / power, dtype)
    return Columns(torch.cat([u[a] for a, _ in PRODUCTS], dim=-1), torch.cat([w[b] for _, b in PRODUCTS], dim=-1))


def parts(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Numbers of `dtype` whose sum is `x`, in the dtype of `x`; the gradient of `x` is that of the first, which meets
    every part of the other factor.
    """
    found, rest = [], x.detach()
    for _ in range(PARTS):
        found.append(rest.to(dtype).to(x.dtype))
        rest = rest - found[-1]
    return [x + (found[0] - x).detach(), *found[1:]]


def widened(x: Tensor, columns: Tensor | None, width: int) -> Tensor:
    """[x, columns, zeros] of (B, H, N, d) and (B or 1, H or 1, N, r), (B, H, N, width), in one copy."""
    added = [] if columns is None else [columns.to(x.dtype).expand(*x.shape[:-1], columns.size(-1))]
    zeros = x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1) - sum(part.size(-1) for part in added))
    return torch.cat([x, *added, zeros], dim=-1)
