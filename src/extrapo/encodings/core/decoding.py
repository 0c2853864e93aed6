"""What decoding keeps of positions, so that a step does no work that the last one has done.

A step adds one token to S others. Their positions stay what they are; seen from the new query all distances grow. Both
helpers are values like a Cache: what was handed out stays, also where two texts go on from it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from extrapo.encodings.core.cache import Cache
from extrapo.encodings.core.logit import Logit

#: Tokens after which positions are measured from another one.
NEAR = 64


class Nearby(NamedTuple):
    """Positions as seen from one of them."""

    cache: Cache  # S_j - O, narrow
    origin: Tensor  # (B or 1, H or 1, 1) O
    left: int  # tokens until another origin is due


class PositionCache:
    """The positions of all tokens so far, in their wide dtype, and in a narrow one as seen from a token near the last.

    A position loses digits with its distance to where it is measured from, so that what a narrow difference of two
    lacks is relative to a distance, as where a tile measures from its first row, and not to the length of the text.

    Args:
        wide: (B or 1, H or 1, S) positions S_j.
        dtype: the narrow one.
        pending: positions after those, which nobody has asked for.
        nearby: the same positions from nearby, where they are there already.
    """

    def __init__(
        self, wide: Cache, dtype: torch.dtype, pending: tuple[Tensor, ...] = (), nearby: Nearby | None = None
    ) -> None:
        self._wide, self._dtype, self._pending, self._nearby = wide, dtype, pending, nearby
        new = pending[-1] if pending else wide.tokens
        self.last = new if new.size(-1) == 1 else new[..., -1:]

    @property
    def keys(self) -> Tensor:
        """(B or 1, H or 1, S) wide, a view."""
        if self._pending:
            self._wide, self._pending = self._wide.append(torch.cat(self._pending, dim=-1)), ()
        return self._wide.tokens

    def append(self, new: Tensor) -> PositionCache:
        """The cache with the positions (B or 1, H or 1, N) after its own."""
        nearby, count = self._nearby, new.size(-1)
        if nearby is not None and nearby.left >= count:
            longer, room = nearby.cache.extended(count)
            room.copy_(new - nearby.origin)
            nearby = Nearby(longer, nearby.origin, nearby.left - count)
        else:
            nearby = None
        return PositionCache(self._wide, self._dtype, (*self._pending, new), nearby)

    def near(self) -> Tensor:
        """S_j - O, (B or 1, H or 1, S) in the narrow dtype, from an origin O near the last."""
        if self._nearby is None:
            self._nearby = Nearby(Cache((self.keys - self.last).to(self._dtype)), self.last, NEAR)
        return self._nearby.cache.tokens


class DistanceRowCache:
    """Lines of the distance between consecutive tokens, over all keys: a new token's row is that of the token before
    it, and one number more at its far end. Tables of them double in length.
    """

    def __init__(self) -> None:
        self._tables: dict[Logit, tuple[tuple[Tensor | None, Tensor], tuple[Tensor, ...]]] = {}

    def line(
        self, logit: Logit, n: int, numbers: tuple[Tensor, ...], like: Tensor
    ) -> tuple[Tensor | None, Tensor] | None:
        """(t, b) of the distances n-1, ..., 1, 0, (1, H or 1, 1, n) each; None where it has no line, or its numbers
        have changed.

        Args:
            logit: the formula, of factors S_i, -S_j and the numbers.
            n: number of keys.
            numbers: what the formula reads besides.
            like: a tensor of the distances' dtype and device.
        """
        table, made_of = self._tables.get(logit, (None, numbers))
        if not all(a is b or torch.equal(a, b) for a, b in zip(made_of, numbers, strict=True)):
            return None
        if table is None or table[1].size(-1) < n:
            z = torch.arange(2 * n - 1, -1, -1, dtype=like.dtype, device=like.device).view(1, 1, 1, -1)
            table = logit.line(z, torch.zeros_like(z[..., :1]), *numbers)
            if table is None:
                return None
            self._tables[logit] = table, numbers
        t, b = table
        start = b.size(-1) - n
        return None if t is None else t.narrow(-1, start, n), b.narrow(-1, start, n)
