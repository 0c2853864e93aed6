"""Scratch: memory that one attention leaves to the next.

The system hands out large blocks page by page and takes them back when they are freed; for a tile of some MiB this
costs as much as a matrix product. On a CPU each calling thread keeps what its workers wrote to, up to a limit, and the
C library is taught to keep what else is freed.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import torch
from torch import Tensor

#: Blocks above this size are not kept, bytes.
KEPT = 2**26


class Kept(threading.local):
    """One calling thread's blocks, by worker, slot and dtype."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[int, str, torch.dtype], Tensor] = {}


_kept = Kept()


def scratch(like: Tensor, shape: tuple[int, ...], worker: int, slot: str) -> Tensor:
    """A tensor of this shape with anything in it, valid until the calling thread asks for the same one again.

    Call it from the thread that shares out the work, not from a worker.

    Args:
        like: what has its dtype and device.
        shape: its shape.
        worker: whose it is.
        slot: which of the worker's it is.
    """
    size = torch.Size(shape).numel()
    if like.device.type != "cpu" or size * like.element_size() > KEPT:
        return like.new_empty(shape)
    blocks = _kept.blocks
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
