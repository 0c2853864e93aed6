"""Tables of learned biases: T5's logarithmic buckets (Raffel et al., 1910.10683), and an entry per clipped distance."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from extrapo.errors import UserError
from extrapo.kernels.base import Free, Kernel, kernels


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Entries of a table (heads, 1, n) at indices (..., heads or 1, R, S); of a table (n,) at indices of any shape."""
    if table.dim() == 1:
        return table[index]
    heads = torch.arange(table.size(0), device=table.device).view(-1, 1, 1)
    return table.squeeze(1)[heads, index]


class Table(Kernel):
    """phi(n) = E[number of thresholds <= n] for whole distances n; a straight line between n and n + 1.

    On index distances the line is never seen. On contextual ones it trains the clock, which a step would not.

    Args:
        thresholds: the first distance of every entry but entry 0, in ascending order.
        std: the entries start as normal numbers of this deviation.
    """

    needs_nonnegative = False
    monotone = False
    kinked = True
    summable = "never"
    thresholds: Tensor

    def __init__(self, heads: int | None, thresholds: Sequence[int], *, std: float) -> None:
        super().__init__(heads)
        entries = len(thresholds) + 1
        shape = (entries,) if heads is None else (heads, 1, entries)
        self.table = Free(std * torch.randn(shape))
        self.register_buffer("thresholds", torch.tensor(thresholds), persistent=False)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        table, thresholds = values
        whole = z.detach().floor()
        here, there = (look_up(table, torch.bucketize(n, thresholds, right=True)) for n in (whole, whole + 1))
        return here + (z - whole) * (there - here)

    def values(self) -> tuple[Tensor, ...]:
        return self.table(), self.thresholds


def t5_bucket(n: int, buckets: int, max_distance: int) -> int:
    """T5's causal bucket of distance n: n itself up to e = B/2, then e + floor((B - e) ln(n/e) / ln(D/e)) <= B - 1."""
    exact = buckets // 2
    if n < exact:
        return n
    share = math.log(n / exact) / math.log(max_distance / exact)
    return min(buckets - 1, exact + math.floor(share * (buckets - exact)))


@kernels.register("t5-bucket")
class T5Bucket(Table):
    """phi(n) = E[bucket(n)]: an entry per distance up to B/2, then in buckets that widen logarithmically up to D.

    Between whole distances phi is a straight line, see Table.

    Args:
        buckets: B, entries of the table.
        max_distance: D; from here on all distances share the last entry.
        std: the entries start as normal numbers of this deviation.
    """

    paper = "T5, 1910.10683"
    summary = "E[bucket(z)], logarithmic buckets"

    def __init__(
        self, heads: int | None = None, *, buckets: int = 32, max_distance: int = 128, std: float = 0.02
    ) -> None:
        if not 2 <= buckets < 2 * max_distance:
            raise UserError(f"t5-bucket needs at least 2 buckets and max_distance above buckets/2, not {max_distance}")
        distances = range(max_distance + 1)
        thresholds = [
            bisect_left(distances, b, key=lambda n: t5_bucket(n, buckets, max_distance)) for b in range(1, buckets)
        ]
        super().__init__(heads, thresholds, std=std)


@kernels.register("clip-table")
class ClipTable(Table):
    """phi(n) = E[min(n, K)]: an entry per distance, the last one for all beyond.

    Between whole distances phi is a straight line, see Table.

    Args:
        last: K; one less than the training length where it is to have an entry for all that training shows.
        std: the entries start as normal numbers of this deviation.
    """

    paper = "Cable, 2503.08067"
    summary = "E[min(z, K)]; Cable's description of its T5 baseline"

    def __init__(self, heads: int | None = None, *, last: int = 127, std: float = 0.02) -> None:
        if last < 1:
            raise UserError(f"the last distance of a clip-table must be at least 1, not {last}")
        super().__init__(heads, range(1, last + 1), std=std)
