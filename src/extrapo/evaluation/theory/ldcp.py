"""Long-distance correlation preservation (Vetcha, 2601.06113): how far the mean logit, or the content, still reaches.

    N(C) = max { n : E[A(m)] >= -C for all m <= n }        of the whole logit, with the gauge A(0) = 0
    correlation length: where the coherence of the content falls below half of that at distance 1

The first is signed: with absolute values every penalty would pass. The second is of the mean, not of the standard
deviation, which a rotation never lowers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

#: C: a logit this far below the nearest leaves e^-5 = 0.7% of its weight.
LEVEL = 5.0


def local_distance(logits: Tensor, level: float = LEVEL) -> int | None:
    """N(C) of mean logits by distance 0, 1, ..., (L,), in the gauge A(0) = 0; None where it holds at all of them."""
    # A product such as 1280 / 256 may miss C by its last digit.
    fails = logits - logits[0] < -level - 1e-9 * max(1.0, level)
    return int(fails.int().argmax()) - 1 if fails.any() else None


def correlation_length(coherence: Sequence[float], distances: Sequence[int], share: float = 0.5) -> float | None:
    """The distance at which |coherence| falls below `share` of its first value, log-linear between those measured.

    None where it does not within them.
    """
    floor = share * abs(coherence[0])
    for i in range(1, len(distances)):
        above, below = abs(coherence[i - 1]), abs(coherence[i])
        if below < floor:
            span = math.log(distances[i] / distances[i - 1])
            return distances[i - 1] * math.exp(span * (above - floor) / (above - below))
    return None
