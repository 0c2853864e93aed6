"""PoPE, polar coordinate position embedding (Gopalakrishnan et al., 2509.10534): content sets how long a coordinate is,
position alone where it points.

    logit_ij = s sum over c of softplus(q_ic) softplus(k_jc) cos((j - i) w_c + delta_hc),  w_c = base^(-c/d)
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies
from extrapo.encodings.core.spec import LayerSpec
from extrapo.kernels.base import bounded

Start = Literal["zero", "uniform"]


@encodings.register("pope")
class PoPE(Encoding):
    """Each of the d coordinates is the length of a vector in a plane of its own, d frequencies: q and k double.

    The scale s stays 1/sqrt(d) of the original width.

    Args:
        base: the frequencies are w_c = base^(-c/d), c = 0..d-1.
        start: of the phases delta, one per head and coordinate, trained within [-2 pi, 0]: all `zero`, or `uniform`.
    """

    paper = Paper(
        "Gopalakrishnan et al., 2509.10534",
        "index",
        "polar",
        summary="softplus lengths from the content, phases from the index",
        year=2025,
    )
    query_key = "wider"

    def __init__(self, spec: LayerSpec, *, base: float = 10_000.0, start: Start = "zero") -> None:
        super().__init__(spec)
        self.base = base
        self.delta = nn.Parameter(torch.zeros(self.heads, 1, self.head_dim))
        if start == "uniform":
            nn.init.uniform_(self.delta, -2 * math.pi, 0)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        # d frequencies base^(-c/d) are those that RoPE gives a head of twice the width.
        phase = context.index.unsqueeze(-1) * frequencies(2 * self.head_dim, self.base, q)
        # Half of the phases leave [-2 pi, 0] with the first step: a plain clamp would never let them back.
        delta = bounded(self.delta.to(phase.dtype), -2 * math.pi, 0)
        return Transformed(polar(q, phase), polar(k, phase + delta), v, state)


def polar(x: Tensor, phase: Tensor) -> Tensor:
    """Lengths softplus(x) (B, H, T, d) at angles `phase` (B or 1, H or 1, T, d) -> coordinates (B, H, T, 2d)."""
    length = F.softplus(x)
    return torch.cat([length * phase.cos().to(x.dtype), length * phase.sin().to(x.dtype)], dim=-1)
