"""FoX, the Forgetting Transformer (Lin et al., 2503.02130; code zhixuan-lin/forgetting-transformer): forget gates.

    b_ij = c_i - c_j = sum over l = j+1..i of ln f_l,   f_t = sigma(w_h . x_t + beta_h)        `fox`
    b_ij = sum over l = j..i-1 of ln sigma(q'_i . k'_l / sqrt(r))                              `fox-per-row`

The second lets every query judge again what to forget (x-transformers; no paper). It counts the key's token and not
the query's, the first the query's and not the key's.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.contextual import ContextualDistance, DistancePerQuery
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.positions import Input
from extrapo.encodings.core.relative import wide_enough
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.kernels import Linear, Positive

ForgetGate = Literal["full", "bias-only", "fixed"]
GateScale = Literal["none", "s"]


@encodings.register("fox")
class FoX(ContextualDistance):
    """b_ij = c_i - c_j: the clock of -ln f under a linear kernel. Cable v1 up to the sign of the pre-activation.

    Args:
        gate: what f reads: `full`, the token (the default there as here); `bias-only`, nothing, a learned number per
            head, then c_i - c_j = -(i - j) / T_h; `fixed`, the same untrained: ALiBi with slopes 1 / T_h.
        t_min, t_max: T_h of the first and the last head, log-spaced between: a gate starts at ln f = -1 / T_h, so that
            its memory is T_h tokens. None is beta = 0, f = 1/2. The authors use them for `bias-only` and `fixed` alone.
        gate_scale: a factor on the bias: `none`, or `s` = 1 / sqrt(d), which PaTH's library multiplies it by.
        input: what the gate reads: `full` width (the code), or each `head` its own slice.

    Raises:
        UserError: one of t_min and t_max without the other, or not positive; a `fixed` gate without them.
    """

    paper = Paper("Lin et al., 2503.02130", "contextual", "-", "linear", "a forget gate per token", 2025, state="c_j")
    takes_kernel = False

    def __init__(
        self,
        spec: LayerSpec,
        *,
        gate: ForgetGate = "full",
        t_min: float | None = None,
        t_max: float | None = None,
        gate_scale: GateScale = "none",
        input: Input = "full",
    ) -> None:
        super().__init__(spec, increments="log-sigmoid" if gate == "full" else "const", input=input)
        if gate == "fixed" and t_min is None:
            raise UserError("encoding 'fox': a fixed gate needs t_min and t_max")
        forgets = rates(spec.heads, t_min, t_max)
        if self.contextual is None:
            self.kernel = Linear(spec.heads, r=forgets, trainable=gate != "fixed")
        else:
            bias = self.contextual.projection.bias
            assert bias is not None
            with torch.no_grad():
                # ln sigma(beta) = -rate.
                bias.copy_(-torch.expm1(forgets).log())
        if gate_scale == "s":
            self.gate = Positive(1 / math.sqrt(spec.head_dim), spec.heads, trainable=False)


def rates(heads: int, t_min: float | None, t_max: float | None) -> Tensor:
    """(H,) what a token costs at the start, -ln f = 1 / T_h, T_h log-spaced; ln 2 where no times are given."""
    if t_min is None and t_max is None:
        return torch.full((heads,), math.log(2.0), dtype=torch.float64)
    if t_min is None or t_max is None or min(t_min, t_max) <= 0:
        raise UserError(f"encoding 'fox': t_min and t_max must both be positive numbers, not {t_min} and {t_max}")
    return torch.linspace(-math.log(t_min), -math.log(t_max), heads, dtype=torch.float64).exp()


@encodings.register("fox-per-row")
class FoXPerRow(Encoding):
    """b_ij = sum over l = j..i-1 of ln sigma(q'_i . k'_l / sqrt(r)), with q', k' linear maps of the input.

    Args:
        gate_dim: r, the width of q' and k' per head.
    """

    paper = Paper(
        "x-transformers (no paper), after Lin et al., 2503.02130",
        "contextual",
        summary="a forget gate per pair: each query judges the tokens again",
        year=2025,
        state="k'_l",
    )

    def __init__(self, spec: LayerSpec, *, gate_dim: int = 8) -> None:
        super().__init__(spec)
        if gate_dim < 1:
            raise UserError(f"encoding 'fox-per-row': gate_dim must be at least 1, not {gate_dim}")
        self.gate_dim = gate_dim
        self.gates = nn.Linear(spec.dim, 2 * spec.heads * gate_dim, bias=False)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        gates = (
            self.gates(x.to(self.gates.weight.dtype)).to(wide_enough(x)).unflatten(-1, (2, self.heads, self.gate_dim))
        )
        readers, tokens = gates.permute(2, 0, 3, 1, 4)
        if isinstance(past, DistancePerQuery):
            tokens = torch.cat([past.tokens, tokens], dim=2)
        return DistancePerQuery(readers / math.sqrt(self.gate_dim), tokens, own=False)
