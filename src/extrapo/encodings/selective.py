"""Selective RoPE (Movahedi et al., 2511.17388): each token chooses the step of every plane; a convolution smooths it.

phi_t = sum over m < 4 of w_m * (W2 W1 l2norm(x_{t-m}))       per head and plane; l2norm of each head's slice of x
q_t, k_t <- R(tau_c sum over s <= t of phi_s) q_t, k_t        tau_c = 500,000^(-2c/d), fixed
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.angles import precise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.relative import wide_enough
from extrapo.encodings.core.rotation import Layout, accumulated, rotate_both
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError

Tau = Literal["rope", "rfa"]


class SelectiveState(NamedTuple):
    """What decoding keeps."""

    taps: Tensor  # (B, H d/2, width - 1) the last projections, before the convolution
    phase: Tensor  # (B, H, 1, d/2) the sum so far, wide


@encodings.register("selective-rope")
class SelectiveRoPE(Encoding):
    """Rotation by the sum of steps that a low-rank projection and a depthwise causal convolution make of the input.

    All weights start at N(0, 0.02), as the authors' language models: planes hardly turn at first.

    Args:
        rank: of the projection; 16 in the code, 32 in the runs.
        width: taps of the convolution.
        skip_conv: the difference of neighbours instead, whose sum is the projection itself.
        gate: steps times sigmoid(u_h . l2norm(x) + c_h), per head.
        phase_bias: exp(b) added to each step, per head and plane; b = 0 at the start, which is RoPE at the base.
        tau: `rope`, base^(-2c/d); `rfa`, tan(a_c / 2) over its largest, a_c evenly from 0 to span pi.
        base: of tau = `rope`.
        span: of tau = `rfa`, in (0, 1).
        layout: which two dimensions make a plane, see RoPE.
    """

    paper = Paper(
        "Movahedi et al., 2511.17388",
        "contextual",
        "rotation",
        summary="steps per plane from a low-rank projection and a short convolution, summed",
        year=2025,
        state="3 inputs of the convolution, d/2 phases",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        rank: int = 16,
        width: int = 4,
        skip_conv: bool = False,
        gate: bool = False,
        phase_bias: bool = False,
        tau: Tau = "rope",
        base: float = 500_000.0,
        span: float = 0.9,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec)
        heads, head_dim, dim = spec.heads, spec.head_dim, spec.dim
        require_even(head_dim, "selective-rope")
        if rank < 1 or width < 1:
            raise UserError(f"encoding 'selective-rope': rank and width must be at least 1, not {rank} and {width}")
        if not 0 < span < 1:
            raise UserError(f"encoding 'selective-rope': span must lie in (0, 1), not {span}")
        self.width = 2 if skip_conv else width
        self.base, self.span, self.layout = base, span, layout
        self.tau: Tau = tau
        channels = heads * head_dim // 2
        self.down, self.up = nn.Linear(dim, rank, bias=False), nn.Linear(rank, channels, bias=False)
        #: the last tap is the current token's.
        self.taps = None if skip_conv else nn.Parameter(torch.empty(channels, 1, width))
        self.gate = nn.Linear(dim, heads) if gate else None
        self.phase_bias = nn.Parameter(torch.zeros(heads, 1, head_dim // 2)) if phase_bias else None
        for weight in (self.down.weight, self.up.weight, self.taps, None if self.gate is None else self.gate.weight):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)
        if self.gate is not None:
            nn.init.zeros_(self.gate.bias)

    def temperature(self, x: Tensor) -> Tensor:
        """tau_c, (d/2,), wide."""
        if self.tau == "rope":
            return frequencies(self.head_dim, self.base, x)
        spread = torch.linspace(0, self.span * math.pi, self.head_dim // 2, device=x.device, dtype=wide(x))
        return (spread / 2).tan() / math.tan(self.span * math.pi / 2)

    def steps(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, D), in float32 at least, and the taps before -> phi (B, H, T, d/2), and the taps after."""
        slices = x.view(*x.shape[:-1], self.heads, -1)
        x = (slices * (slices.square().sum(-1, keepdim=True) + 1e-6).rsqrt()).flatten(-2)
        projected = precise(self.up, precise(self.down, x)).transpose(1, 2)
        if past is None:
            past = projected.new_zeros(*projected.shape[:-1], self.width - 1)
        line = torch.cat([past, projected], dim=-1)
        phi = line.diff(dim=-1) if self.taps is None else F.conv1d(line, self.taps.to(line.dtype), groups=line.size(1))
        phi = phi.reshape(x.size(0), self.heads, -1, x.size(1)).transpose(-1, -2)
        if self.phase_bias is not None:
            phi = phi + self.phase_bias.to(phi.dtype).exp()
        if self.gate is not None:
            phi = phi * precise(self.gate, x).sigmoid().transpose(1, 2).unsqueeze(-1)
        return phi, line[..., line.size(-1) - self.width + 1 :]

    def exemptions(self) -> dict[str, str]:
        why = "within 5e-4: the angles are sums over the whole text, and so are the gradients of what makes them"
        return {} if self.phase_bias is None else {"float32_gradients": why}

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        taps, phase = (None, None) if state is None else state
        with torch.autocast(x.device.type, enabled=False):
            phi, taps = self.steps(x.to(wide_enough(x)), taps)
        phase = accumulated(phi, phase)
        angles = self.temperature(q) * phase
        q, k = rotate_both(q, k, angles, self.layout)
        return Transformed(q, k, v, SelectiveState(taps, phase[..., -1:, :]))
