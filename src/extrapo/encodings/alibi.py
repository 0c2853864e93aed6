"""ALiBi, attention with linear biases (Press et al., 2108.12409; code ofirpress/attention_with_linear_biases)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.kernels import Linear, alibi_slopes, create


@encodings.register("alibi")
class ALiBi(Encoding):
    """b_ij = -m_h (i - j), m_h a geometric sequence over the heads; no parameters.

    With another kernel, b_ij = phi(m_h (i - j)): the slopes set each head's unit of distance.

    Args:
        kernel: phi.
        learned: train the slopes, from the same start (through a softplus).
        factor: on the slopes; 96 in BiPE (2401.16421), whose distance counts segments.
    """

    paper = Paper("Press et al., 2108.12409", "index", "-", "linear", "a fixed slope per head", 2021)
    takes_kernel = True

    def __init__(
        self,
        spec: LayerSpec,
        *,
        kernel: str = "linear",
        learned: bool = False,
        factor: float = 1.0,
    ) -> None:
        super().__init__(spec)
        if factor <= 0:
            raise UserError(f"encoding 'alibi': factor must be positive, not {factor}")
        self.slopes = Linear(spec.heads, r=[factor * slope for slope in alibi_slopes(spec.heads)], trainable=learned)
        self.kernel = None if kernel == "linear" else create(kernel, spec.heads)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        if self.kernel is None:
            return distance_bias(self.slopes, queries, past, x=x, heads=self.heads, counted=is_counted(context))
        (slopes,) = self.slopes.values()
        gate = slopes.squeeze(-1).unsqueeze(0) * torch.ones_like(queries, dtype=slopes.dtype)
        return distance_bias(self.kernel, queries, past, x=x, heads=self.heads, gate=gate)
