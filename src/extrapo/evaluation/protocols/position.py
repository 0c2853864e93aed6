"""The loss by position in a window: whether a long context hurts, or whether windows begin with too little of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from extrapo.evaluation.protocols.base import PROTOCOLS
from extrapo.evaluation.protocols.disjoint import Disjoint


@PROTOCOLS.register("position")
@dataclass(frozen=True)
class Position(Disjoint):
    """Disjoint windows, whose losses are told apart by how much the model has seen of the window: one token, two, three
    and four, five to eight, and so on, twice as many each time. A bin is the same at every length but for the last.
    """

    description = "disjoint windows, stride = length, by position"

    def bins(self, length: int) -> Sequence[range]:
        ends = [1]
        while ends[-1] < length:
            ends.append(min(2 * ends[-1], length))
        return [range(1, 2), *(range(last + 1, end + 1) for last, end in pairwise(ends))]
