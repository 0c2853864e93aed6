"""T5's relative bias (Raffel et al., 1910.10683): a learned number per head and bucket of distances."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.kernels import create

Bucketing = Literal["log", "clip"]


@encodings.register("t5")
class T5(Encoding):
    """b_ij = E[h, bucket(i - j)], one table for all layers.

    T5 itself leaves the dot product unscaled: `logit_scale = 1`, with queries that start smaller.

    Args:
        bucketing: `log`, a bucket per distance up to buckets/2 and then ever wider ones; `clip`, an entry per
            distance up to `clip`, as Cable (2503.08067) describes its T5 baseline.
        buckets: entries of the table of `log`.
        max_distance: from here on `log` has one bucket.
        clip: the last entry's distance of `clip`; one less than the training length by default.
        sqrt_width: multiply the table by sqrt(d), as x-transformers and GPT-NeoX do (with it DAPE's and KERPLE's T5
            baselines): it learns that much faster.
    """

    paper = Paper(
        "Raffel et al., 1910.10683", "index", "-", "t5-bucket", "a learned bias per bucket of distances", 2019
    )
    shared_by_layers = True

    def __init__(
        self,
        spec: LayerSpec,
        *,
        bucketing: Bucketing = "log",
        buckets: int = 32,
        max_distance: int = 128,
        clip: int | None = None,
        sqrt_width: bool = False,
    ) -> None:
        super().__init__(spec)
        if clip is not None and bucketing == "log":
            raise UserError("encoding 't5': clip goes with bucketing = clip")
        self.factor = math.sqrt(self.head_dim) if sqrt_width else 1.0
        if bucketing == "log":
            self.kernel = create("t5-bucket", self.heads, buckets=buckets, max_distance=max_distance)
        else:
            last = max(1, spec.train_length - 1) if clip is None else clip
            self.kernel = create("clip-table", self.heads, last=last)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        bias = distance_bias(
            self.kernel, index_positions(x, past, context), past, x=x, heads=self.heads, counted=is_counted(context)
        )
        table, thresholds = bias.values
        return replace(bias, values=(self.factor * table, thresholds))
