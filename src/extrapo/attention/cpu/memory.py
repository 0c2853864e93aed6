"""Memory: what one attention frees is left to the next.

The system hands out large blocks page by page and takes them back when they are freed; for outputs and gradients of
some MiB this costs as much as a matrix product. The C library is taught to keep them.
"""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Free a large block, once: from it glibc learns to keep blocks up to that size, and twice as much in all.

    Its limits follow the largest block below 32 MiB that was freed (mallopt(3), M_MMAP_THRESHOLD). Elsewhere, and where
    MALLOC_ settings are in force, this does nothing.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
