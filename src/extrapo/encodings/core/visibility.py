"""Visibility: which of the keys before it a query sees, by their places in the text alone (windows and sinks)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visibility:
    """The last w keys, i - j < w, and the first k.

    Args:
        window: w in tokens.
        sinks: k.
        outer: what limits it further: seen is what both see.
    """

    window: int
    sinks: int = 0
    outer: Visibility | None = None

    def within(self, outer: Visibility | None) -> Visibility:
        """What both this and `outer` see."""
        if outer is None:
            return self
        return replace(self, outer=outer if self.outer is None else self.outer.within(outer))

    def sees(self, i: Tensor, j: Tensor) -> Tensor:
        """Whether the query at place i of the text sees the key at j, which is no later."""
        seen = (i - j < self.window) | (j < self.sinks)
        return seen if self.outer is None else seen & self.outer.sees(i, j)

    def of_blocks(self, first: Tensor, last: Tensor, keys: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Of blocks of pairs: whether any pair may be seen, and whether all are.

        Args:
            first, last: places of each block's first and last query.
            keys, ends: of its first and last key.
        """
        some = (first - ends < self.window) | (keys < self.sinks)
        whole = (last - keys < self.window) | (ends < self.sinks)
        if self.outer is None:
            return some, whole
        some_outer, whole_outer = self.outer.of_blocks(first, last, keys, ends)
        return some & some_outer, whole & whole_outer


def hidden(queries: int, keys: int, visibility: Visibility | None, device: torch.device) -> Tensor:
    """(T, S) bool: True where the last T of S tokens do not see a key: it comes later, or is out of sight."""
    later = torch.ones(queries, keys, dtype=torch.bool, device=device).triu_(keys - queries + 1)
    if visibility is None:
        return later
    place = torch.arange(keys, device=device)
    return later | ~visibility.sees(place[keys - queries :].unsqueeze(-1), place)
