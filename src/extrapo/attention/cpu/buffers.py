"""Buffers: memory that one attention leaves to the next, and in which a worker makes one tile after the other.

The system hands out large blocks page by page and takes them back when they are freed; for a tile of some MiB this
costs as much as a matrix product. Each calling thread keeps what its workers wrote to, up to a limit, and the C library
is taught to keep what else is freed.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import torch
from torch import Tensor

#: Blocks above this size are not kept, bytes.
LARGEST_BUFFER = 2**26


class Buffers(threading.local):
    """One calling thread's blocks, by worker, slot and dtype."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[int, str, torch.dtype], Tensor] = {}


_buffers = Buffers()


def buffer(like: Tensor, shape: tuple[int, ...], worker: int, slot: str) -> Tensor:
    """A tensor of this shape with anything in it, valid until the calling thread asks for the same one again.

    Call it from the thread that shares out the work, not from a worker.

    Args:
        like: what has its dtype.
        shape: its shape.
        worker: whose it is.
        slot: which of the worker's it is.
    """
    size = torch.Size(shape).numel()
    if size * like.element_size() > LARGEST_BUFFER:
        return like.new_empty(shape)
    blocks = _buffers.blocks
    key = worker, slot, like.dtype
    if key not in blocks or blocks[key].numel() < size:
        blocks[key] = torch.empty(size, dtype=like.dtype)
    return blocks[key][:size].view(shape)


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Free a large block, once: from it glibc learns to keep blocks up to that size, and twice as much in all.

    Its limits follow the largest block below 32 MiB that was freed (mallopt(3), M_MMAP_THRESHOLD). Elsewhere, and where
    MALLOC_ settings are in force, this does nothing.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


class TileBuffers:
    """What one worker reads of an attention, and the memory in which it makes its tiles.

    Args:
        q: (BH, T, d) queries.
        k: (BH, S, d) keys.
        v: (BH, S, d) values.
        scale: s.
        heads: H.
        rows: of the largest tile.
        count: how many tiles are alive at a time.
        worker: its number.
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, heads: int, rows: int, count: int, worker: int
    ) -> None:
        self.q, self.k, self.v, self.scale, self.heads = q, k, v, scale, heads
        self.tiles = [buffer(q, (q.size(0) * rows * k.size(1),), worker, f"tile {n}") for n in range(count)]

    def past(self, rows: slice) -> slice:
        """The keys that the last of the rows sees."""
        return slice(0, self.k.size(1) - self.q.size(1) + int(rows.stop))

    def tile(self, which: int, rows: slice) -> Tensor:
        """(BH, R, S') of memory."""
        size, stop = rows.stop - rows.start, self.past(rows).stop
        return self.tiles[which][: self.q.size(0) * size * stop].view(-1, size, stop)

    def scores(self, rows: slice) -> Tensor:
        """s q.k of these rows, (B, H, R, S'), in the first of the tiles."""
        return self.by_head(product(self.q[:, rows], self.k[:, self.past(rows)].mT, self.tile(0, rows), self.scale))

    def by_head(self, x: Tensor) -> Tensor:
        """(BH, ...) -> (B, H, ...)."""
        return x.view(-1, self.heads, *x.shape[1:])


def product(a: Tensor, b: Tensor, out: Tensor, scale: float) -> Tensor:
    """scale a b of (BH, R, n) and (BH, n, m), (BH, R, m), written to `out`."""
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
