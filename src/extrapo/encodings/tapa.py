"""TAPA, token-aware phase attention (Wang et al., 2509.12635): one part of q and k sets the size, another the phase.

    logit_ij = q_A . k_A / sqrt(theta d) * cos(2 pi n^alpha q_P . k_P / sqrt((1 - theta) d)),   n = i - j

q = [q_A ; q_P], the first of width theta d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.kernels.base import root


@dataclass(frozen=True, kw_only=True)
class PhaseBias(Relative, Rowwise):
    """The product of two parts of q and k, one of them in a cosine.

    Args:
        alpha: power of the distance in the phase.
        amplitude: width of the part that sets the size.
    """

    alpha: float
    amplitude: int

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        q, k = q.to(self.dtype), k.to(self.dtype).transpose(-1, -2)
        size = q[..., : self.amplitude] @ k[..., : self.amplitude, :]
        phase = q[..., self.amplitude :] @ k[..., self.amplitude :, :]
        # s = 1 / sqrt(d), and each part has its share of the width.
        share = self.amplitude / q.size(-1)
        turns = root(self.distance(rows).clamp_min(0.0), self.alpha) * phase * (scale / math.sqrt(1 - share))
        return scale / math.sqrt(share) * size * (2 * math.pi * turns).cos()


@encodings.register("tapa")
class TAPA(Encoding):
    """A logit whose sign and size oscillate with the distance, at a rate that the two tokens set.

    Args:
        alpha: power of the distance in the phase: 0.1 in the paper, 1 is its ablation.
        theta: share of the head's width that sets the size.

    Raises:
        UserError: a share that leaves one part without a dimension; a power that is not positive.
    """

    paper = Paper(
        "Wang et al., 2509.12635",
        "index",
        "phase of a second product",
        summary="the dot product of one half, times the cosine of the other's by distance",
        year=2025,
        contextual=True,
        state="position",
    )
    bias_kind = "owns"
    query_key = "read"

    def __init__(self, spec: LayerSpec, *, alpha: float = 0.1, theta: float = 0.5) -> None:
        super().__init__(spec)
        self.alpha, self.amplitude = alpha, round(theta * self.head_dim)
        if not 0 < self.amplitude < self.head_dim:
            raise UserError(
                f"encoding 'tapa': theta = {theta} of a head's width {self.head_dim} must leave a dimension "
                "to each part"
            )
        if alpha <= 0:
            raise UserError(f"encoding 'tapa': alpha must be positive, not {alpha}")

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return PhaseBias(
            heads=self.heads,
            queries=queries,
            keys=with_past(queries, past),
            dtype=wide_enough(x),
            alpha=self.alpha,
            amplitude=self.amplitude,
        )
