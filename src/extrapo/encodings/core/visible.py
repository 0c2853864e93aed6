"""How many keys a query sees, and the factor that grows with their number: SSMax (Nakanishi, 2501.19399)."""

from __future__ import annotations

import torch
from torch import Tensor


def visible_keys(start: int, x: Tensor, dtype: torch.dtype) -> Tensor:
    """(T,) m_i of T tokens after `start` others, start + 1, start + 2, ...; T is the last but one size of `x`.

    Counted, not read from the index: sampled and segmented positions are no counts.
    """
    return torch.arange(start + 1, start + x.size(-2) + 1, device=x.device, dtype=dtype)


def sharpness(s: Tensor, visible: Tensor) -> Tensor:
    """s_h ln m_i: the softmax with base m_i. `s` and `visible` broadcast, and come out in the wider of both dtypes."""
    return s * visible.log()
