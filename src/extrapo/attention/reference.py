"""The specification of attention under a bias: the plain formula, in any dtype, with the whole T x S matrix."""

from __future__ import annotations

from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.tiling import mask_hidden
from extrapo.encodings.core.bias import Bias


class Reference(Backend):
    """mix(score_rows(q, k)) over the keys that each query sees."""

    name = "reference"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        return Verdict(True, "the plain formula with the whole matrix")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        rows = slice(0, q.size(-2))
        # A copy: what a scheme gives may be a view of something that the mask must not reach.
        logits = bias.score_rows(q, k, scale, rows).clone()
        return bias.mix(mask_hidden(logits, bias.visibility()), v, rows)
