"""xPos (Sun et al., 2212.10554): RoPE whose planes fade with distance, the fastest the most.

logit_ij = s sum over c of zeta_c^((i - j) / 512) <R(i theta_c) q_c, R(j theta_c) k_c>
zeta_c = (2c / d + 0.4) / 1.4, between 0.29 for the fastest plane and just below 1 for the slowest
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.rotation import Layout, joined, rotate_both
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@dataclass(frozen=True)
class Fading(Relative, Rowwise):
    """The dot product with dimension e of width d damped by exp(rate_e (i - j)).

    Args:
        rate: (d,) at most 0, per token, wide.
    """

    rate: Tensor = field(kw_only=True)

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        # q fades and k grows with the position, measured from the tile: far from it k only vanishes. From a point that
        # is fixed for the whole text, k would leave float32 some 36,000 tokens after it.
        middle = (rows.start + rows.stop) // 2
        origin = self.queries[..., middle : middle + 1]
        fade = ((self.queries[..., rows] - origin).unsqueeze(-1) * self.rate).exp()
        grow = ((origin - self.keys[..., : self.stop(rows)]).unsqueeze(-1) * self.rate).exp()
        return scale * ((q * fade.to(q.dtype)) @ (k * grow.to(k.dtype)).transpose(-1, -2))


@encodings.register("xpos")
class XPos(Encoding):
    """RoPE, and plane c damped by zeta_c^((i - j) / scale_base), zeta_c = (2c/d + gamma) / (1 + gamma).

    The paper's other half, attention in blocks of the training length at evaluation, is not part of it.

    Args:
        scale_base: tokens over which plane c loses the factor zeta_c.
        gamma: 0.4 in the paper; larger fades less.
        base: of the rotation's frequencies.
        layout: which two dimensions make a plane, see RoPE.
    """

    paper = Paper(
        "Sun et al., 2212.10554",
        "index",
        "rotation",
        summary="RoPE whose fast planes fade with distance",
        year=2022,
        state="position",
    )
    bias_kind = "owns"

    def __init__(
        self,
        spec: LayerSpec,
        *,
        scale_base: float = 512.0,
        gamma: float = 0.4,
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec)
        require_even(self.head_dim, "xpos")
        if scale_base <= 0 or gamma <= 0:
            raise UserError(f"encoding 'xpos': scale_base and gamma must be positive, not {scale_base} and {gamma}")
        self.scale_base, self.gamma, self.base, self.layout = scale_base, gamma, base, layout

    def rate(self, x: Tensor) -> Tensor:
        """(d,) ln(zeta) / scale_base of each dimension's plane, wide."""
        plane = torch.arange(self.head_dim // 2, device=x.device, dtype=wide(x))
        zeta = (2 * plane / self.head_dim + self.gamma) / (1 + self.gamma)
        per_plane = zeta.log() / self.scale_base
        return joined(per_plane, per_plane, self.layout)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        angles = context.index.unsqueeze(-1) * frequencies(self.head_dim, self.base, q)
        return Transformed(*rotate_both(q, k, angles, self.layout), v, state)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return Fading(
            heads=self.heads,
            queries=queries,
            keys=with_past(queries, past),
            dtype=wide_enough(x),
            rate=self.rate(x),
        )
