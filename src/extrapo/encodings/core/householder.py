"""Products of Householder steps H_t = I - beta_t w_t w_t^T: the arithmetic under PaTH (Yang et al., 2505.16381).

The steps of a chunk of m tokens, rows w_1..w_m of W, make one matrix (the UT form of the WY representation):

    H_m H_{m-1} ... H_1 = I - W^T T W,   T = (I + tril(diag(beta) W W^T, -1))^-1 diag(beta),   lower triangular

and a leading block of T is the T of the chunk's first tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Steps(NamedTuple):
    """The step of every token of a text, for attention that goes through them itself.

    Args:
        w: (B, H, T, d), of length 1.
        beta: (B, H, T) in (0, 2).
    """

    w: Tensor
    beta: Tensor


def chunked(rows: Tensor, size: int) -> Tensor:
    """(..., T, d) -> (..., chunks, size, d), zeros after the last: a step with w = 0 is the identity."""
    padded = F.pad(rows, (0, 0, 0, -rows.size(-2) % size))
    return padded.view(*padded.shape[:-2], -1, size, padded.size(-1))


def wy_triangle(w: Tensor, beta: Tensor) -> Tensor:
    """T of a chunk: w (..., m, d), beta (..., m) -> (..., m, m)."""
    below = (beta.unsqueeze(-1) * (w @ w.transpose(-1, -2))).tril(-1)
    # The diagonal of ones is implied.
    solved: Tensor = torch.linalg.solve_triangular(below, torch.diag_embed(beta), upper=False, unitriangular=True)
    return solved


def propagate_keys(keys: Tensor, w: Tensor, t: Tensor, before: int = 0) -> Tensor:
    """H_m ... H_{j+1} k_j: each key taken through the chunk's steps that come after it.

    Args:
        keys: (..., N, d); the first `before` come before the chunk, the others are its own from its first token on.
        w: (..., m, d).
        t: (..., m, m) its triangle.
        before: number of keys that all steps act on.

    Returns:
        (..., N, d).
    """
    seen = (keys @ w.transpose(-1, -2)).triu(1 - before)
    return keys - seen @ (t.transpose(-1, -2) @ w)
