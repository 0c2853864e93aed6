"""Sight: which of the keys before it a query sees, of places in the text alone (windows and sinks)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sight:
    """The last w keys, i - j < w, and the first k.

    Args:
        window: w in tokens.
        sinks: k.
    """

    window: int
    sinks: int = 0

    def sees(self, i: Tensor, j: Tensor) -> Tensor:
        """Whether the query at place i of the text sees the key at j, which is no later."""
        return (i - j < self.window) | (j < self.sinks)

    def hidden(self, size: int, keys: int, device: torch.device) -> Tensor:
        """(R, S) bool: True where the key is out of sight for queries that are the last R of S tokens."""
        place = torch.arange(keys, device=device)
        return ~self.sees(place[keys - size :].unsqueeze(-1), place)

    def of_blocks(self, first: Tensor, last: Tensor, keys: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Of blocks of pairs: whether any pair is seen, and whether all are.

        Args:
            first, last: places of each block's first and last query.
            keys, ends: of its first and last key.
        """
        some = (first - ends < self.window) | (keys < self.sinks)
        whole = (last - keys < self.window) | (ends < self.sinks)
        return some, whole
