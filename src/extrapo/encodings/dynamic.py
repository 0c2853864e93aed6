"""Dynamic position bias (lucidrains/x-transformers): a network of the log distance."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.curves import longest_distance
from extrapo.encodings.core.distance import distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.kernels import ClipTable, MLPLog


@encodings.register("dynamic-bias")
class DynamicBias(Encoding):
    """b_ij = MLP_h(ln(1 + i - j)): SiLU layers that the heads share, FIRE without its normaliser.

    x-transformers' default feeds the plain distance; this is its log_distance. The output has no bias: a constant per
    head cancels in the softmax.

    Args:
        width: hidden units; None is a quarter of the model's width.
        depth: hidden layers.
    """

    paper = Paper("x-transformers", "index", "-", "mlp-log", "a network of the log distance", 2022)

    def __init__(self, spec: LayerSpec, *, width: int | None = None, depth: int = 2) -> None:
        super().__init__(spec)
        self.kernel = MLPLog(spec.heads, width=max(1, spec.dim // 4) if width is None else width, depth=depth)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        bias = distance_bias(
            self.kernel, index_positions(x, past, context), past, x=x, heads=self.heads, counted=is_counted(context)
        )
        # The network sees every distance once, and the pairs look it up: T evaluations and not T^2.
        longest = bias.keys.size(-1) - 1 if bias.is_counted else longest_distance(bias.queries, bias.keys)
        n = torch.arange(longest + 1, device=x.device, dtype=bias.dtype)
        table = self.kernel(n.view(1, 1, -1))
        return replace(bias, phi=ClipTable.phi, values=(table, n[1:]))
