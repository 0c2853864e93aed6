"""RoPE, rotary position embedding (Su et al., 2104.09864), and p-RoPE (Barbero et al., 2410.06205), its fastest planes.

q_i <- R(i theta) q_i,  k_j <- R(j theta) k_j,  theta_c = base^(-2c/d):  q.k depends on i - j alone
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.rotation import Layout, rotate_both, rotate_by_index
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@encodings.register("rope")
class RoPE(Encoding):
    """q_i <- R(i theta) q_i, k_j <- R(j theta) k_j, theta_c = base^(-2c/d): q.k depends on i - j.

    Args:
        base: 10,000 in the paper; 500,000 is common since ("adjusted base frequency").
        fraction: share of the head that is rotated (partial rotary): its first dimensions, at the frequencies of a
            head of that width alone, 1 down to almost 1/base, as in GPT-J and GPT-NeoX.
        layout: `half` pairs the dimensions (c, c + d/2), `interleaved` (2c, 2c + 1).
        learned: train the frequencies of the layer, through their logarithm, from the same start.
    """

    paper = Paper(
        "Su et al., 2104.09864", "index", "rotation", summary="queries and keys turn with their index", year=2021
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        base: float = 10_000.0,
        fraction: float = 1.0,
        layout: Layout = "half",
        learned: bool = False,
    ) -> None:
        super().__init__(spec)
        require_even(self.head_dim, "rope")
        if not 0 < fraction <= 1:
            raise UserError(f"encoding 'rope': fraction must lie in (0, 1], not {fraction}")
        self.base, self.layout = base, layout
        self.planes = max(1, round(fraction * self.head_dim / 2))
        start = frequencies(2 * self.planes, base, torch.empty(0)).log().float()
        self.log_theta = nn.Parameter(start) if learned else None

    def theta(self, x: Tensor) -> Tensor:
        """(planes,) frequencies, in the wide dtype."""
        if self.log_theta is None:
            return frequencies(2 * self.planes, self.base, x)
        return self.log_theta.to(wide(x)).exp()

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        rotated = rotate_by_index(q, k, context.index, self.theta(q), self.layout, context.shared)
        return Transformed(*rotated, v, state)


@encodings.register("p-rope")
class PRoPE(Encoding):
    """RoPE on the floor(p d/2) fastest planes; the others do not turn, and carry content that no distance blurs.

    Planes and frequencies are those of the whole head, as in the paper's code: unlike `rope` with a fraction, which
    turns the head's first dimensions at all speeds, this leaves out the slow ones.

    Args:
        p: share of the planes that turn; 0.75 did best in the paper. 0 is no encoding, 1 is RoPE.
        base: of the frequencies, those of the whole width.
        layout: see RoPE.
    """

    paper = Paper(
        "Barbero et al., 2410.06205", "index", "rotation", summary="RoPE without its slowest planes", year=2024
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        p: float = 0.75,
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec)
        require_even(self.head_dim, "p-rope")
        if not 0 <= p <= 1:
            raise UserError(f"encoding 'p-rope': p must lie in [0, 1], not {p}")
        self.base, self.layout = base, layout
        self.planes = int(p * self.head_dim / 2)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        theta = frequencies(self.head_dim, self.base, q)[: self.planes]
        angles = context.index.unsqueeze(-1) * F.pad(theta, (0, self.head_dim // 2 - self.planes))
        return Transformed(*rotate_both(q, k, angles, self.layout), v, state)
