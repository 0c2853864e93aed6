"""Sandwich (Chi et al., 2212.10356): of sinusoidal embeddings, the inner product of position with position alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.kernels import CosineSum


@encodings.register("sandwich")
class Sandwich(Encoding):
    """b_ij = (sum over c = 1..D/2 of cos((i - j) 10000^(-2c/D)) - D/2) / h_n, h_n = 8n/H; no parameters.

    The -D/2 makes b(0) = 0 and cancels in the softmax.

    Args:
        width: D.
        first: the first c; 0 as in the listing of the paper's appendix, which then ends at D/2 - 1.
    """

    paper = Paper(
        "Chi et al., 2212.10356",
        "index",
        "-",
        "cos-sum",
        "inner products of sinusoids, compressed per head; reconstruction",
        2022,
        certainty="reconstruction",
    )

    def __init__(self, spec: LayerSpec, *, width: int = 128, first: Literal[0, 1] = 1) -> None:
        super().__init__(spec)
        self.kernel = CosineSum(self.heads, width=width)
        #: the factor from the frequencies of c = 1..D/2 to those of c = 0..D/2-1.
        self.raised = 10_000 ** (2 / width) if first == 0 else 1.0

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        bias = distance_bias(
            self.kernel, index_positions(x, past, context), past, x=x, heads=self.heads, counted=is_counted(context)
        )
        compression, frequencies = bias.values
        return replace(bias, values=(compression, self.raised * frequencies))
