"""BAM, Bayesian attention (Bianchessi et al., 2505.22842; code ArthurSBianchessi/BAM): a prior over distances."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.relative import index_positions, wide_enough
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visible import sharpness, visible_keys
from extrapo.kernels import create

Shape = Literal["one", "linspace", "normal"]
SSMax = Literal["off", "inside", "outside"]


def shapes(name: Shape, heads: int) -> Tensor:
    """(H,) initial r_h."""
    if name == "linspace":
        return torch.linspace(0, 1, heads)
    return torch.ones(heads) if name == "one" else torch.randn(heads)


@encodings.register("bam")
class BAM(Encoding):
    """b_ij = -e^(a_h) (|(j - i) - mu_h| + 1e-5)^(r_h), mu_h = e^(l_h) - e^(-l_h): a generalised Gaussian log-prior.

    a_h starts at the logarithm of ALiBi's slopes, l_h at 0; one prior for all layers. r_h may become negative: then the
    prior rises with distance. With SSMax, row i, of m_i = i + 1 keys, is multiplied by s_h ln m_i, s_h from 1; the
    authors' code has s_h per layer, here it goes with the prior.

    Args:
        shape: how r_h starts: at `one`, `linspace` from 0 to 1 over the heads, or `normal` numbers.
        learn_location: train l_h, which the authors hold at 0.
        ssmax: `off`; `inside`, on s q.k + b (the authors' default for SSMax); `outside`, on s q.k alone.
    """

    paper = Paper(
        "Bianchessi et al., 2505.22842",
        "index",
        "-",
        "gen-gauss",
        "a prior of learned scale and shape per head",
        2025,
    )
    shared_by_layers = True
    query_key = "scaled"

    def __init__(
        self,
        spec: LayerSpec,
        *,
        shape: Shape = "one",
        learn_location: bool = False,
        ssmax: SSMax = "off",
    ) -> None:
        super().__init__(spec)
        self.kernel = create("gen-gauss", spec.heads, r=shapes(shape, spec.heads), learn_location=learn_location)
        self.ssmax: SSMax = ssmax
        self.idle_steps = frozenset({"transform"} if ssmax == "off" else ())
        self.seq_scale = None if ssmax == "off" else nn.Parameter(torch.ones(spec.heads, 1))

    def exemptions(self) -> dict[str, str]:
        return {} if self.seq_scale is None else {"translation": "SSMax counts the visible keys"}

    def sharpness(self, x: Tensor, start: int) -> Tensor:
        """s_h ln m_i of the tokens of `x`, which see start + 1, start + 2, ... keys: (1, H, T)."""
        assert self.seq_scale is not None
        return sharpness(self.seq_scale.to(wide_enough(x)), visible_keys(start, x, wide_enough(x))).unsqueeze(0)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        if self.seq_scale is not None:
            q = q * self.sharpness(x, context.start).unsqueeze(-1).to(q.dtype)
        return Transformed(q, k, v, state)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        before = 0 if past is None else past.shape[-1]
        return distance_bias(
            self.kernel,
            index_positions(x, past, context),
            past,
            x=x,
            heads=self.heads,
            gate=self.sharpness(x, before) if self.ssmax == "inside" else None,
            order="before_gate",
        )
