"""Cable, context-aware biases (2503.08067): v1 `cable`, v3 `cable-weighted`, v3 without its gate `cable-nw`, `k-cable`.

    S_t = sum over s <= t of f(w_h . x_s)          the clock that the tokens drive
    b_ij = kappa(g_i (S_i - S_j))                  kappa(z) = -z, or K-Cable's -ln(1 + z^2)

The sign is a penalty: v3's printed equation lacks the minus that its text and the v1 code have. What the linear map
reads, v3's missing bias of that map and the place of the gate under a kernel are reconstructed, hence options.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from extrapo.encodings.base import Encoding, Paper, distance_bias, encodings
from extrapo.encodings.bias import Bias, DistanceBias, Order
from extrapo.kernels import create
from extrapo.positions import Clock, HeadProjection, Input

SOURCE = "Veisi et al., 2503.08067"


class ContextualDistance(Encoding):
    """A kernel of the distance on a contextual clock; the classes below only choose its pieces.

    Args:
        kernel: kappa.
        input: what the linear maps read: `full` width (the code), or each head its own slice (the paper's symbols).
        linear_bias: whether the increments' linear map has a bias; None as in the version's source.
        kernel_order: with a gate, kappa(g z) `after_gate` (default) or g kappa(z) `before_gate`.
    """

    takes_kernel = True
    increments: ClassVar[str]
    gated: ClassVar[bool] = False
    biased: ClassVar[bool]
    default_kernel: ClassVar[str] = "linear"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        kernel: str | None = None,
        input: Input = "full",
        linear_bias: bool | None = None,
        kernel_order: Order = "after_gate",
    ) -> None:
        super().__init__(heads, head_dim, dim)
        biased = self.biased if linear_bias is None else linear_bias
        self.clock = Clock(dim, heads, increments=self.increments, bias=biased, source=input)
        self.gate = HeadProjection(dim, heads, bias=False, source=input) if self.gated else None
        self.kernel = create(kernel or self.default_kernel, heads)
        self.kernel_order: Order = kernel_order

    def bias(self, x: Tensor, past: Bias | None = None) -> Bias:
        start = past.keys[..., -1:] if isinstance(past, DistanceBias) else None
        gate = None if self.gate is None else F.softplus(self.gate(x))
        return distance_bias(
            self.kernel, self.clock(x, start), past, x=x, heads=self.heads, gate=gate, order=self.kernel_order
        )


@encodings.register("cable")
class Cable(ContextualDistance):
    """Version 1: softplus increments with a bias, no gate. FoX's gate up to the sign of the pre-activation."""

    paper = Paper(f"{SOURCE} v1", "contextual", "-", "linear", "softplus increments; authors' code")
    increments, biased = "softplus", True


@encodings.register("cable-weighted")
class CableWeighted(ContextualDistance):
    """Version 3: ReLU increments without a bias, a softplus gate on the query."""

    paper = Paper(f"{SOURCE} v3", "contextual", "-", "linear", "ReLU increments, query gate; sign reconstructed")
    increments, biased, gated = "relu", False, True


@encodings.register("cable-nw")
class CableNoWeight(ContextualDistance):
    """Version 3 without the gate ("no weight")."""

    paper = Paper(f"{SOURCE} v3", "contextual", "-", "linear", "ReLU increments, no gate; sign reconstructed")
    increments, biased = "relu", False


@encodings.register("k-cable")
class KCable(ContextualDistance):
    """Version 1's clock under the kernel -ln(1 + z^2)."""

    paper = Paper(
        f"{SOURCE} v3, 5.6",
        "contextual",
        "-",
        "cauchy-log",
        "Cauchy kernel on the clock; order of pieces reconstructed",
    )
    increments, biased, default_kernel = "softplus", True, "cauchy-log"
