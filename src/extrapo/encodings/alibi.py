"""ALiBi, attention with linear biases (Press et al., 2108.12409; code ofirpress/attention_with_linear_biases)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.encodings.base import Encoding, Paper, distance_bias, encodings
from extrapo.encodings.bias import Bias
from extrapo.kernels import Linear, alibi_slopes, create
from extrapo.positions import index


@encodings.register("alibi")
class ALiBi(Encoding):
    """b_ij = -m_h (i - j), m_h a geometric sequence over the heads; no parameters.

    With another kernel, b_ij = kappa(m_h (i - j)): the slopes set each head's unit of distance.

    Args:
        kernel: kappa.
        learned: train the slopes, from the same start (through a softplus).
    """

    paper = Paper("Press et al., 2108.12409", "index", "-", "linear", "a fixed slope per head")
    takes_kernel = True

    def __init__(self, heads: int, head_dim: int, dim: int, *, kernel: str = "linear", learned: bool = False) -> None:
        super().__init__(heads, head_dim, dim)
        self.slopes = Linear(heads, r=alibi_slopes(heads), trainable=learned)
        self.kernel = None if kernel == "linear" else create(kernel, heads)

    def bias(self, x: Tensor, past: Bias | None = None) -> Bias:
        before = 0 if past is None else past.shape[-1]
        queries = index(before, before + x.size(1), x)
        if self.kernel is None:
            return distance_bias(self.slopes, queries, past, x=x, heads=self.heads)
        (slopes,) = self.slopes.values()
        gate = slopes.squeeze(-1).unsqueeze(0) * torch.ones_like(queries, dtype=slopes.dtype)
        return distance_bias(self.kernel, queries, past, x=x, heads=self.heads, gate=gate)
