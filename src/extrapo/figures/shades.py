"""The colours of a map of biases: signed ones from blue over white to red, others on one even scale; ends marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable

#: Share of the values that may lie beyond an end, so that a few far keys do not flatten all others.
CLIPPED = 0.02
#: What is less than this share of the other side does not make a bias a signed one.
SIGNED = 1e-3


class Shade(NamedTuple):
    """A scale.

    Args:
        low, high: its ends.
        cmap: a colour map of matplotlib that the colour-blind can read.
        label: what the bar says, with its unit.
        extend: which ends have values beyond them, as matplotlib names it.
    """

    low: float
    high: float
    cmap: str
    label: str
    extend: str

    def mappable(self) -> ScalarMappable:
        """For `imshow` and the bar."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        return ScalarMappable(Normalize(self.low, self.high), cmap=self.cmap)


def bias_shade(values: NDArray[np.floating[Any]], what: str = "bias (nats)") -> Shade:
    """The scale of biases with NaN or -inf where nothing shows.

    It runs from the 2nd percentile to the largest value; of signed ones symmetrically about 0, which is white.
    """
    seen = values[np.isfinite(values)]
    if seen.size == 0 or seen.min() == seen.max():
        level = float(seen[0]) if seen.size else 0.0
        return Shade(level - 1, level + 1, "viridis", f"{what}\n{level:.3g} everywhere", "neither")
    least, most = float(seen.min()), float(seen.max())
    low, high = (float(np.percentile(seen, 100 * share)) for share in (CLIPPED, 1 - CLIPPED))
    if least < 0 < most and min(-least, most) > SIGNED * max(-least, most):
        end = max(-low, high)
        if end <= 0 or not end < max(-least, most):
            return Shade(-max(-least, most), max(-least, most), "RdBu_r", what, "neither")
        below, above = least < -end, most > end
        extend = "both" if below and above else "min" if below else "max" if above else "neither"
        return Shade(-end, end, "RdBu_r", f"{what}\nfrom {least:.3g} to {most:.3g}, clipped at ±{end:.3g}", extend)
    if low <= least or low >= most:
        return Shade(least, most, "viridis", what, "neither")
    return Shade(low, most, "viridis", f"{what}\n2 % lie below {low:.3g}, down to {least:.3g}", "min")
