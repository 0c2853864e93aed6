"""Workspace: what one worker reads of an attention, and the memory in which it makes one tile after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.attention.cpu.buffers import scratch


def product(a: Tensor, b: Tensor, out: Tensor, scale: float) -> Tensor:
    """scale a b of (BH, R, n) and (BH, n, m), (BH, R, m), written to `out`."""
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


class Workspace:
    """One worker's memory: every tile that it makes is made in the same places.

    Args:
        q: (BH, T, d) queries.
        k: (BH, S, d) keys.
        v: (BH, S, d) values.
        scale: s.
        heads: H.
        size: rows of the largest tile.
        places: how many tiles are alive at a time.
        worker: its number.
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, heads: int, size: int, places: int, worker: int
    ) -> None:
        self.q, self.k, self.v, self.scale, self.heads = q, k, v, scale, heads
        self.places = [scratch(q, (q.size(0) * size * k.size(1),), worker, f"tile {n}") for n in range(places)]

    def past(self, rows: slice) -> slice:
        """The keys that the last of the rows sees."""
        return slice(0, self.k.size(1) - self.q.size(1) + int(rows.stop))

    def place(self, which: int, rows: slice) -> Tensor:
        """(BH, R, S') of memory."""
        size, stop = rows.stop - rows.start, self.past(rows).stop
        return self.places[which][: self.q.size(0) * size * stop].view(-1, size, stop)

    def content(self, rows: slice) -> Tensor:
        """s q.k of these rows, (B, H, R, S'), in the first place."""
        content = product(self.q[:, rows], self.k[:, self.past(rows)].mT, self.place(0, rows), self.scale)
        return self.by_head(content)

    def by_head(self, x: Tensor) -> Tensor:
        """(BH, ...) -> (B, H, ...)."""
        return x.view(-1, self.heads, *x.shape[1:])
