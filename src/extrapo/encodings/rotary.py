"""RoPE, rotary position embedding (Su et al., 2104.09864): queries and keys turn with their index."""

from __future__ import annotations

from torch import Tensor

from extrapo.encodings.base import Encoding, Paper, Transformed, encodings
from extrapo.errors import UserError
from extrapo.positions import index
from extrapo.rotation import Layout, frequencies, require_even, rotate


@encodings.register("rope")
class RoPE(Encoding):
    """q_i <- R(i theta) q_i, k_j <- R(j theta) k_j, theta_c = base^(-2c/d): q.k depends on i - j.

    Args:
        base: 10,000 in the paper.
        fraction: share of the planes that are rotated, the fastest first (partial rotary).
        layout: `half` pairs the dimensions (c, c + d/2), `interleaved` (2c, 2c + 1).
    """

    paper = Paper("Su et al., 2104.09864", "index", "rotation", summary="queries and keys turn with their index")

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        base: float = 10_000.0,
        fraction: float = 1.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(heads, head_dim, dim)
        require_even(head_dim, "rope")
        if not 0 < fraction <= 1:
            raise UserError(f"encoding 'rope': fraction must lie in (0, 1], not {fraction}")
        self.base, self.layout = base, layout
        self.planes = max(1, round(fraction * head_dim / 2))

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, start: int, carry: Tensor | None) -> Transformed:
        theta = frequencies(self.head_dim, self.base, q)[: self.planes]
        angles = index(start, start + q.size(-2), q).unsqueeze(-1) * theta
        return Transformed(rotate(q, angles, self.layout), rotate(k, angles, self.layout), v, carry)
