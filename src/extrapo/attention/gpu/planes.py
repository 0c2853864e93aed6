"""Planes: what kernels of turned scores read and write: tokens plane by plane, cosines and sines by the distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.encodings.core.turned import cosines

#: Tokens come in so many, with zeros behind the last; every block is a part of it.
TOKENS = 128

#: Numbers of a line before that of no distance, and behind the longest: tiles reach over both ends of it.
MARGIN = 256


@dataclass(frozen=True)
class Planes:
    """Lines for one attention.

    Args:
        cos, sin: (H or 1, F, N) in float32, of distances from -MARGIN on; zeros where there are none.
        theta: (F,) frequencies, in float32.
        q, k: strides from plane to plane.
        each: planes of a frequency.
    """

    cos: Tensor
    sin: Tensor
    theta: Tensor
    q: int
    k: int
    each: int

    @classmethod
    def of(cls, q: Tensor, k: Tensor, turns: Tensor, theta: Tensor) -> Self:
        """Those of tokens that `by_planes` gave, of turns (1, H or 1, 1, S) as the last query has them."""
        # A multiple of 16: Triton makes other code of what is none.
        beyond = -(2 * MARGIN + turns.size(-1)) % 16 + MARGIN
        cos, sin = (F.pad(x, (MARGIN, beyond)) for x in cosines(turns.flip(-1), theta, torch.float32))
        each = q.size(-1) // 2 // theta.numel()
        return cls(cos, sin, theta.to(torch.float32), q.stride(-1), k.stride(-1), each)

    @property
    def arguments(self) -> list[Tensor | int]:
        """Of a kernel."""
        head = self.cos.stride(0) if self.cos.size(0) > 1 else 0
        return [self.cos, self.sin, self.theta, head, self.cos.stride(1), self.q, self.k, self.each]


def by_planes(x: Tensor) -> Tensor:
    """(B, H, N, d) in float32 with the tokens of a plane side by side, of x (B, H, T, d); N >= T.

    So a thread reads four tokens at once, and none is widened again for every tile.
    """
    made = zeros_by_planes(x)
    made[:, :, : x.size(-2)] = x
    return made


def zeros_by_planes(like: Tensor) -> Tensor:
    """As many, for tokens like these."""
    batch, heads, length, width = like.shape
    return like.new_zeros(batch, heads, width, -(-length // TOKENS) * TOKENS, dtype=torch.float32).mT
