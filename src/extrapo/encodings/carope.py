"""CARoPE, context-aware RoPE (Veisi et al., 2507.23083): each token sets, per head, the base frequency of its own step.

phi_hc(t) = sum over s <= t of f_h(x_s)^c,  f_h(x) = 1 / (softplus(w_h . x + b_h) + 1),  planes c = 1..d/2
q_i <- R(phi(i)) q_i,  k_j <- R(phi(j)) k_j
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import require_even
from extrapo.encodings.core.positions import HeadProjection
from extrapo.encodings.core.rotation import Layout, accumulated, rotate_both
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@encodings.register("carope")
class CARoPE(Encoding):
    """Plane c turns by f_h(x_s)^c at each token: with a constant f = base^(-2/d), RoPE at the planes 1..d/2.

    The paper starts as RoPE, which its printed f cannot without a bias: softplus(b_h) = base^(2/d) - 1.

    Args:
        base: of the RoPE from which it starts.
        c0: planes c = 0..d/2-1, ordinary RoPE's; the paper counts from 1, and has no plane that turns by 1 a token.
        linear_bias: b_h; without it, f starts near 1 / (1 + ln 2) = 0.59.
        layout: which two dimensions make a plane, see RoPE.
    """

    paper = Paper(
        "Veisi et al., 2507.23083",
        "contextual",
        "rotation",
        summary="a base frequency per token and head, summed; the bias that starts it as RoPE is a reconstruction",
        year=2025,
        state="d/2 phases",
        certainty="reconstruction",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        base: float = 10_000.0,
        c0: bool = False,
        linear_bias: bool = True,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec)
        require_even(spec.head_dim, "carope")
        if base <= 1:
            raise UserError(f"encoding 'carope': base must be above 1, not {base}")
        self.first, self.layout = 0 if c0 else 1, layout
        self.projection = HeadProjection(spec.dim, spec.heads, bias=linear_bias)
        if self.projection.bias is not None:
            target = base ** (2 / spec.head_dim) - 1
            nn.init.constant_(self.projection.bias, target + math.log(-math.expm1(-target)))

    def steps(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d/2), f_h(x_t)^c = exp(-c ln(1 + softplus(z)))."""
        decay = torch.log1p(F.softplus(self.projection(x))).unsqueeze(-1)
        plane = torch.arange(self.head_dim // 2, device=x.device, dtype=decay.dtype) + self.first
        return torch.exp(-plane * decay)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        phase = accumulated(self.steps(x), state)
        return Transformed(*rotate_both(q, k, phase, self.layout), v, phase[..., -1:, :])
