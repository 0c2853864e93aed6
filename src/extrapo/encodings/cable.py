"""Cable, context-aware biases (2503.08067): v1 `cable`, v3 `cable-weighted`, v3 without its gate `cable-nw`, `k-cable`;
and `contextual`, the form that they and others share.

    S_t = sum over s <= t of f(w_h . x_s)          the clock that the tokens drive
    b_ij = phi(g_i (S_i - S_j))                    phi(z) = -z, or K-Cable's -ln(1 + z^2)

The sign is a penalty: v3's printed equation lacks the minus that its text and the v1 code have. What the linear map
reads (`full`, as v1's code; `head`, as v3's symbols), v3's missing bias of that map and the place of the gate under a
kernel are reconstructed, hence options.
"""

from __future__ import annotations

from extrapo.encodings.core.contextual import ContextualDistance
from extrapo.encodings.core.encoding import Paper, encodings

SOURCE = "Veisi et al., 2503.08067"


@encodings.register("cable")
class Cable(ContextualDistance):
    """Version 1: softplus increments with a bias, no gate. FoX's gate up to the sign of the pre-activation."""

    paper = Paper(f"{SOURCE} v1", "contextual", "-", "linear", "softplus increments; authors' code", 2025, state="S_j")


@encodings.register("cable-weighted")
class CableWeighted(ContextualDistance):
    """Version 3: ReLU increments without a bias, a softplus gate on the query."""

    paper = Paper(
        f"{SOURCE} v3",
        "contextual",
        "-",
        "linear",
        "ReLU increments, query gate; sign is a reconstruction",
        2025,
        state="S_j",
        certainty="reconstruction",
    )
    own_increments, own_gate, own_linear_bias = "relu", "softplus", False


@encodings.register("cable-nw")
class CableNoWeight(ContextualDistance):
    """Version 3 without the gate ("no weight")."""

    paper = Paper(
        f"{SOURCE} v3",
        "contextual",
        "-",
        "linear",
        "ReLU increments, no gate; sign is a reconstruction",
        2025,
        state="S_j",
        certainty="reconstruction",
    )
    own_increments, own_linear_bias = "relu", False


@encodings.register("k-cable")
class KCable(ContextualDistance):
    """Version 1's clock under the kernel -ln(1 + z^2)."""

    paper = Paper(
        f"{SOURCE} v3, 5.6",
        "contextual",
        "-",
        "cauchy-log",
        "Cauchy kernel on the clock; the order of the pieces is a reconstruction",
        2025,
        state="S_j",
        certainty="reconstruction",
    )
    own_kernel = "cauchy-log"


@encodings.register("contextual")
class Contextual(ContextualDistance):
    """The form itself, every piece an option; by default it is `cable`.

    `const` with a learned gate is ALiBi with learned slopes, `log-sigmoid` is FoX, `const` under the kernel `log`
    is KERPLE-log.
    """

    paper = Paper(
        "after Cable, 2503.08067",
        "contextual",
        "-",
        "linear",
        "any clock, gate and kernel, by options",
        2025,
        state="S_j",
    )
