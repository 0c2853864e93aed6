"""What decoding keeps of positions, so that a step does no work that the last one has done.

A step adds one token to S others. Their positions stay what they are; seen from the new query all distances grow. Both
helpers are values like a Cache: what was handed out stays, also where two texts go on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from extrapo.encodings.core.cache import Cache

#: Tokens after which positions are measured from another one.
NEAR = 64


class Track:
    """The positions of all tokens so far, in their wide dtype, and in a narrow one as seen from a token near the last.

    A position loses digits with its distance to where it is measured from, so that what a narrow difference of two
    lacks is relative to a distance, as where a tile measures from its first row, and not to the length of the text.

    Args:
        keys: (B or 1, H or 1, S) positions S_j.
        dtype: the narrow one.
    """

    def __init__(self, keys: Tensor, dtype: torch.dtype) -> None:
        self._wide, self._dtype = Cache(keys), dtype
        self._pending: tuple[Tensor, ...] = ()
        self._near: Cache | None = None
        self.last = keys[..., -1:]

    @property
    def keys(self) -> Tensor:
        """(B or 1, H or 1, S) wide, a view."""
        if self._pending:
            self._wide, self._pending = self._wide.append(torch.cat(self._pending, dim=-1)), ()
        return self._wide.tokens

    def append(self, new: Tensor) -> Track:
        """The track with the positions (B or 1, H or 1, N) after its own."""
        longer = Track.__new__(Track)
        longer._wide, longer._dtype, longer._near = self._wide, self._dtype, None
        longer._pending, longer.last = (*self._pending, new), new if new.size(-1) == 1 else new[..., -1:]
        if self._near is not None and self._left >= new.size(-1):
            longer._near, room = self._near.extended(new.size(-1))
            longer._origin, longer._left = self._origin, self._left - new.size(-1)
            room.copy_(new - self._origin)
        return longer

    def near(self) -> Tensor:
        """S_j - O, (B or 1, H or 1, S) in the narrow dtype, from an origin O near the last."""
        if self._near is None:
            self._origin, self._left = self.last, NEAR
            self._near = Cache((self.keys - self.last).to(self._dtype))
        return self._near.tokens


class Ladder:
    """Functions of the distance between consecutive tokens, as rows over all keys: a new token's row is that of the
    token before it, and one number more at its far end. Tables of them double in length.
    """

    def __init__(self) -> None:
        self._tables: dict[Hashable, tuple[Tensor, tuple[Tensor, ...]]] = {}

    def row(
        self, formula: Callable[..., Tensor], name: Hashable, n: int, values: tuple[Tensor, ...], like: Tensor
    ) -> Tensor | None:
        """formula(z, *values) of the distances z = n-1, ..., 1, 0, (1, 1, 1, n); None where the values have changed.

        Args:
            formula: elementwise.
            name: what is the same for equal formulas.
            n: number of keys.
            values: what the formula reads besides.
            like: a tensor of the distances' dtype and device.
        """
        table, made_of = self._tables.get(name, (None, values))
        if not all(a is b or torch.equal(a, b) for a, b in zip(made_of, values, strict=True)):
            return None
        if table is None or table.size(-1) < n:
            z = torch.arange(2 * n - 1, -1, -1, dtype=like.dtype, device=like.device)
            table = formula(z.view(1, 1, 1, -1), *values)
            self._tables[name] = table, values
        return table.narrow(-1, table.size(-1) - n, n)
