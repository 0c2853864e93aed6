"""Tiles of this wing: how many rows and heads one compiled call takes, and a causal mask in a sixth of the time."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from extrapo.attention.tiling import allowed

#: Logits that a compiled tile makes in one call, near a core: fewer cost more in calls. Measured: 1 to 16 MiB.
CALL_BYTES = 2**22

#: A row of a long text is large enough by itself: what one head's rows take is at most this.
LARGEST_CALL = 2**25


def rows_per_compiled_tile(queries: int, keys: int) -> int:
    """Rows of a compiled tile, a power of two, however many heads: it takes a few at a time.

    Its loop is so fast that the sums of a tile's gradients weigh more: as many rows as leave four tiles.
    """
    return allowed(min(queries // 4, LARGEST_CALL // (4 * keys)))


def heads_per_call(rows: int, keys: int) -> int:
    """Heads, of all texts, that one call of a compiled tile takes: as many as keep them small together."""
    return max(1, CALL_BYTES // (4 * rows * keys))


def apply_causal_mask(logits: Tensor) -> Tensor:
    """-inf where the key is later, over `logits` (..., R, S') without a graph, whose last R columns hold the diagonal.

    What is later must be a number, if an infinite one: a NaN stays, as it would in the gradient.
    """
    size = logits.size(-2)
    own = logits[..., -size:]
    torch.minimum(own, ceiling(size, logits.dtype), out=own)
    return logits


@lru_cache(maxsize=16)
def ceiling(size: int, dtype: torch.dtype) -> Tensor:
    """(R, R): infinity up to the diagonal, -infinity above it."""
    with torch.inference_mode(False):
        later = torch.ones(size, size, dtype=torch.bool).triu_(1)
        return torch.full((size, size), torch.inf, dtype=dtype).masked_fill_(later, -torch.inf)
