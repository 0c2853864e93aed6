"""GRAPE-M, contextual (Zhang et al., 2512.07805): RoPE on a clock that the tokens drive.

Phi_t = sum over s < t of omega_s,  omega_s = sigmoid((w . x_s + b) / 16)
q_i <- norm(R(-Phi_i theta) q_i),  k_j <- norm(R(-Phi_j theta) k_j),  theta learned, RoPE's at the start
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.normed import normed, query_key_norms
from extrapo.encodings.core.positions import HeadProjection, wide
from extrapo.encodings.core.rotation import Layout, accumulated, rotate_both
from extrapo.encodings.core.spec import LayerSpec

Gate = Literal["sigmoid16", "softplus"]
Place = Literal["after", "before"]

#: omega from its pre-activation.
GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid16": lambda z: torch.sigmoid(z / 16),
    "softplus": F.softplus,
}


@encodings.register("grape-m-ctx")
class GrapeMContextual(Encoding):
    """One clock per layer turns all planes; queries and keys are normalised to unit root mean square.

    b starts at ln(e^0.001 - 1), for which `softplus` gives steps of 0.001, as the authors' comments say; the sigmoid
    that their code computes gives 0.394.

    Args:
        gate: `sigmoid16` (the authors' code) or `softplus` (its comments, and its first version).
        norm: `after` the rotation (the authors' code: its gains then break the exact law of distances within a plane),
            `before` it, or None.
        per_head: a clock per head; one for all in the authors' runs.
        base: of the frequencies at the start.
        layout: which two dimensions make a plane, see RoPE.
    """

    paper = Paper(
        "Zhang et al., 2512.07805",
        "contextual",
        "rotation",
        summary="RoPE on a clock of gated steps, learned frequencies, normed queries and keys",
        year=2025,
        state="1 phase",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        gate: Gate = "sigmoid16",
        norm: Place | None = "after",
        per_head: bool = False,
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec)
        require_even(spec.head_dim, "grape-m-ctx")
        self.gate, self.layout = gate, layout
        self.norm: Place | None = norm
        self.omega = HeadProjection(spec.dim, spec.heads if per_head else 1, bias=True)
        assert self.omega.bias is not None
        nn.init.zeros_(self.omega.weight)
        nn.init.constant_(self.omega.bias, math.log(math.expm1(1e-3)))
        self.log_theta = nn.Parameter(frequencies(spec.head_dim, base, torch.empty(0)).log().float())
        if norm is not None:
            self.q_norm, self.k_norm = query_key_norms(spec)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        steps = GATES[self.gate](self.omega(x)).to(wide(x)).unsqueeze(-1)
        total = accumulated(steps, state)
        angles = -(total - steps) * self.log_theta.to(total.dtype).exp()
        if self.norm == "before":
            q, k = normed(self.q_norm, q), normed(self.k_norm, k)
        q, k = rotate_both(q, k, angles, self.layout)
        if self.norm == "after":
            q, k = normed(self.q_norm, q), normed(self.k_norm, k)
        return Transformed(q, k, v, total[..., -1:, :])
