"""Rotations of pairs of dimensions by an angle per plane: the arithmetic under RoPE (2104.09864) and its kin."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from extrapo.errors import UserError
from extrapo.positions import wide

#: which two dimensions make plane c: (c, c + d/2) or (2c, 2c + 1). Equal up to a permutation of the head's width.
Layout = Literal["half", "interleaved"]


def require_even(head_dim: int, encoding: str) -> None:
    """Raise UserError unless the head's width splits into planes."""
    if head_dim % 2:
        raise UserError(
            f"encoding '{encoding}' rotates pairs of dimensions: the head width must be even, not {head_dim} "
            "(width / heads; change --dim or --heads)"
        )


def frequencies(head_dim: int, base: float, x: Tensor) -> Tensor:
    """theta_c = base^(-2c/d) for the planes c = 0..d/2-1, shape (d/2,), in the wide dtype on the device of `x`."""
    plane = torch.arange(head_dim // 2, device=x.device, dtype=wide(x))
    return torch.pow(torch.tensor(base, device=x.device, dtype=wide(x)), -2 * plane / head_dim)


def rotate(x: Tensor, angles: Tensor, layout: Layout = "half") -> Tensor:
    """Turn plane c of `x` (..., T, d) by +angles (..., T, planes); dimensions beyond the planes are left alone.

    The angles come in a wide dtype; only their cosine and sine are rounded to the dtype of `x`.
    """
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    width = 2 * angles.size(-1)
    turned, rest = x[..., :width], x[..., width:]
    if layout == "half":
        a, b = turned.chunk(2, dim=-1)
        out = torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)
    else:
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = torch.cat([torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2), rest], dim=-1)
    return out
