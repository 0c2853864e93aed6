"""Tuning: how large the blocks of a kernel are, for its width and dtype. Chosen by compiling, none was ever timed."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Blocks(NamedTuple):
    """Queries and keys of a tile, and what Triton compiles it for.

    Args:
        queries, keys: a power of two, at least 16.
        warps: threads of a block, in 32s.
        stages: tiles on their way from memory.
    """

    queries: int
    keys: int
    warps: int
    stages: int


#: In Triton's interpreter: small, so that a short text has several.
INTERPRETED = Blocks(16, 16, 4, 1)

#: (kernel, bytes of a number, width up to which) -> blocks.
TABLE = {
    ("forward", 2, 64): Blocks(128, 64, 8, 3),
    ("forward", 2, 128): Blocks(128, 64, 8, 2),
    ("forward", 2, 256): Blocks(64, 32, 8, 2),
    ("forward", 4, 64): Blocks(64, 32, 4, 2),
    ("forward", 4, 128): Blocks(64, 32, 8, 2),
    ("forward", 4, 256): Blocks(32, 16, 8, 1),
    ("of_queries", 2, 64): Blocks(128, 64, 8, 2),
    ("of_queries", 2, 128): Blocks(32, 64, 8, 2),
    ("of_queries", 2, 256): Blocks(32, 32, 8, 1),
    ("of_queries", 4, 64): Blocks(64, 32, 4, 1),
    ("of_queries", 4, 128): Blocks(32, 32, 4, 1),
    ("of_queries", 4, 256): Blocks(16, 16, 4, 1),
    ("of_keys", 2, 64): Blocks(32, 128, 8, 2),
    ("of_keys", 2, 128): Blocks(32, 64, 8, 2),
    ("of_keys", 2, 256): Blocks(32, 32, 8, 1),
    ("of_keys", 4, 64): Blocks(32, 64, 4, 1),
    ("of_keys", 4, 128): Blocks(32, 32, 4, 1),
    ("of_keys", 4, 256): Blocks(16, 16, 4, 1),
    ("of_distances", 2, 64): Blocks(32, 32, 4, 2),
    ("of_distances", 2, 128): Blocks(32, 32, 8, 1),
    ("of_distances", 2, 256): Blocks(32, 32, 8, 1),
    ("of_distances", 4, 64): Blocks(32, 32, 4, 1),
    ("of_distances", 4, 128): Blocks(32, 32, 4, 1),
    ("of_distances", 4, 256): Blocks(16, 16, 4, 1),
}

#: Of cards that have a table of their own, by capability. On sm_90 products are those of a warp group, and larger tiles
#: leave no more registers in memory; with three of keys' on their way, of K-Cable's none are left there.
OF_CARD = {90: TABLE | {("of_queries", 2, 128): Blocks(64, 32, 8, 2), ("of_keys", 2, 64): Blocks(64, 128, 8, 3)}}

#: Where scores turn, plane by plane. Where registers allow, there are as many threads as a program owns tokens, and a
#: sum over the others stays in a thread. How many it owns is never how wide a token is: a tile of the one kind would be
#: laid out among threads as one of the other is.
TURNED = {
    ("forward", 2, 64): Blocks(128, 16, 4, 1),
    ("forward", 2, 128): Blocks(64, 32, 4, 1),
    ("forward", 2, 256): Blocks(32, 32, 4, 1),
    ("forward", 4, 64): Blocks(32, 32, 2, 1),
    ("forward", 4, 256): Blocks(32, 16, 4, 1),
    ("of_queries", 2, 64): Blocks(128, 32, 4, 1),
    ("of_queries", 2, 128): Blocks(64, 32, 2, 1),
    ("of_queries", 2, 256): Blocks(64, 16, 2, 1),
    ("of_queries", 4, 64): Blocks(32, 16, 4, 1),
    ("of_queries", 4, 128): Blocks(32, 16, 8, 1),
    ("of_queries", 4, 256): Blocks(16, 16, 8, 1),
    ("of_keys", 2, 64): Blocks(16, 128, 4, 1),
    ("of_keys", 2, 128): Blocks(16, 64, 4, 1),
    ("of_keys", 2, 256): Blocks(16, 32, 8, 1),
    ("of_keys", 4, 64): Blocks(16, 32, 4, 1),
    ("of_keys", 4, 128): Blocks(16, 32, 8, 1),
    ("of_keys", 4, 256): Blocks(16, 16, 8, 1),
    ("of_distances", 2, 256): Blocks(32, 32, 4, 1),
    ("of_distances", 4, 128): Blocks(32, 32, 4, 1),
    ("of_distances", 4, 256): Blocks(16, 16, 4, 1),
}

#: The widest head, or value, that there are blocks for.
WIDEST = 256


def blocks(kernel: str, width: int, dtype: torch.dtype, capability: int, turned: bool = False) -> Blocks:
    """Those of a kernel for heads of a width, the wider of keys and values, on cards of a capability, 90 of sm_90;
    where planes turn or not.
    """
    table = TURNED if turned else OF_CARD.get(capability, TABLE)
    fitting = (limit for name, size, limit in table if (name, size) == (kernel, dtype.itemsize) and width <= limit)
    return table[kernel, dtype.itemsize, min(fitting)]


def padded(width: int) -> int:
    """The power of two, at least 16, that numbers of a token are read as."""
    return max(16, 1 << (width - 1).bit_length())


def precision() -> str:
    """How float32 is multiplied, as PyTorch was told to: exactly, in three parts, or in one."""
    return {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}[torch.get_float32_matmul_precision()]
