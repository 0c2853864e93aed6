"""Accumulated rotations (Godavarti, 2606.24975; code mahesh-godavarti/slotbasedembeddings): tokens turn what follows.

    P_t = sum over s < t of delta_s
    q_i <- R(-P_i) q_i, k_j <- R(-P_j) k_j          so that key j meets query i turned by delta_j + ... + delta_{i-1}
    v_j <- R(-P_j) v_j, o_i <- R(P_i) o_i           with `values`

The author sums from the right, Phi_t = sum over s >= t of delta_s, and rotates by +Phi: only differences matter, and
they are the same. From the left, decoding keeps one sum instead of rotating the whole past again.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

from torch import Tensor

from extrapo.encodings.core.angles import (
    Angles,
    Codebook,
    Fixed,
    LinearAngles,
    Planes,
    TokenAngles,
    TokenNetworkAngles,
    TokenSigns,
)
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import require_even
from extrapo.encodings.core.random_angles import (
    LearnedFrequencies,
    Random,
    RandomIndependent,
    RandomPositive,
    RandomShared,
    RandomTokenAngles,
    ScaledFrequencies,
)
from extrapo.encodings.core.relative import wide_enough
from extrapo.encodings.core.rotation import accumulated, rotate, rotate_both
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError

Source = Literal[
    "fixed",
    "random",
    "random-indep",
    "random-shared",
    "random-pos",
    "pemb",
    "pmlp",
    "rpemb",
    "lf",
    "fsr",
    "codebook",
    "det-sign",
    "linear",
]

#: name -> source.
ANGLES: dict[Source, type[Angles]] = {
    "fixed": Fixed,
    "random": Random,
    "random-indep": RandomIndependent,
    "random-shared": RandomShared,
    "random-pos": RandomPositive,
    "pemb": TokenAngles,
    "pmlp": TokenNetworkAngles,
    "rpemb": RandomTokenAngles,
    "lf": LearnedFrequencies,
    "fsr": ScaledFrequencies,
    "codebook": Codebook,
    "det-sign": TokenSigns,
    "linear": LinearAngles,
}


def before(delta: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """P_t = start + sum over s < t of delta_s, and the P that the next pass starts from, both modulo 2 pi.

    Args:
        delta: (B or 1, H or 1, T, d/2) radians, in a wide dtype.
        start: (B or 1, H or 1, 1, d/2), None at the beginning of a text.
    """
    total = accumulated(delta, start)
    return (total - delta).remainder(2 * math.pi), total[..., -1:, :].remainder(2 * math.pi)


@encodings.register("accumulated-rotation")
class AccumulatedRotation(Encoding):
    """Queries and keys (and values, and the output) turn by the sum of the angles of the tokens before them.

    Positions are those of the tokens themselves: a source of index positions changes nothing here. The author's code
    attends to a sliding window of 256 tokens unless told otherwise; this is the form without one.

    Args:
        angles: where delta_t comes from, see extrapo.encodings.core.angles; `random` has no parameters.
        values: turn values as well, and the output back.
        base: of the frequencies theta_c = base^(-2c/d).
        seed: of the random angles.
        templates: K, angle templates per token id of `codebook`.
    """

    paper = Paper(
        "Godavarti, 2606.24975",
        "contextual",
        "rotation",
        summary="angles of the tokens add up, random ones by default; from the author's code",
        year=2026,
        state="d/2 angles",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        angles: Source = "random",
        values: bool = False,
        base: float = 10_000.0,
        seed: int = 0,
        templates: int = 4,
    ) -> None:
        super().__init__(spec)
        require_even(spec.head_dim, "accumulated-rotation")
        if templates < 1:
            raise UserError(f"encoding 'accumulated-rotation': templates must be at least 1, not {templates}")
        self.values = values
        self.angles = ANGLES[angles](Planes(spec.heads, spec.head_dim, spec.dim, base, seed, templates), spec)

    def exemptions(self) -> dict[str, str]:
        clauses = {"frozen": self.angles.frozen} if self.angles.frozen else {}
        return clauses | ({"translation": "its noise is keyed by the token's place"} if self.angles.noisy else {})

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        start, own_start = state or (None, None)
        turns, end = before(self.angles(x, context), start)
        # Within one turn float32 is fine enough, and its cosine costs a fraction of float64's.
        turns = turns.to(wide_enough(q))
        q, k = rotate_both(q, k, -turns)
        if not self.values:
            return Transformed(q, k, v, (end, None))
        own, own_end = turns, None
        if self.angles.own_values:
            own, own_end = before(self.angles(x, context, stream=1), own_start)
            own = own.to(wide_enough(v))
        return Transformed(q, k, rotate(v, -own), (end, own_end), partial(rotate, angles=own))
