"""MEP, multiple kernels averaged into one bias (Gao, 2403.17698): a reconstruction from the paper's abstract."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.kernels import create

#: how the kernels are averaged -> the kernel that does it.
MERGES = {"prob": "mix-prob", "logit": "mix-logit"}


@encodings.register("mep")
class MEP(Encoding):
    """b_ij = ln mean(e^(-m n), e^(-m n^2), 1 / (1 + m n)), n = i - j, m the slopes of ALiBi.

    The abstract names exponential and Gaussian kernels, each with slopes of its own, averaged with constant weights
    into a bias on the scores after the softmax, and a variant with parameters. The third kernel and all formulas are a
    reconstruction.

    Args:
        merge: `prob`, the logarithm of the mean weight (a factor after the softmax); `logit`, the mean of the three
            logarithms.
        parametrised: train the slopes and the exponent of the third kernel, per head.
    """

    paper = Paper(
        "Gao, 2403.17698",
        "index",
        "-",
        "mix-prob",
        "three kernels of the distance, averaged; a reconstruction from the abstract",
        2024,
        certainty="reconstruction",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        merge: Literal["prob", "logit"] = "prob",
        parametrised: bool = False,
    ) -> None:
        super().__init__(spec)
        self.kernel = create(MERGES[merge], self.heads, trainable=parametrised)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        return distance_bias(
            self.kernel, index_positions(x, past, context), past, x=x, heads=self.heads, counted=is_counted(context)
        )
