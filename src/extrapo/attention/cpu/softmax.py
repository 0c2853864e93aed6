"""Softmax of tiles: PyTorch's own, or e^x by a compiled loop, made again from each row's log-sum-exp (FlashAttention,
Dao et al., 2205.14135).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from extrapo.attention.cpu.codegen import exponential_loop
from extrapo.attention.cpu.private import CompiledFunction


class Softmax(ABC):
    """Weights from logits, without a graph."""

    @abstractmethod
    def first(self, logits: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Write to `out` weights that are still to be divided by a number of each row; both may be one memory.

        Args:
            logits: (B, H, R, S').
            out: the same shape.

        Returns:
            That number, (B, H, R, 1), and the log-sum-exp for `from_lse`, (B, H, R, 1).
        """

    @abstractmethod
    def from_lse(self, logits: Tensor, lse: Tensor, out: Tensor) -> Tensor:
        """Write to `out` the weights of the same logits."""


class StockSoftmax(Softmax):
    """PyTorch's own, in both passes: its exp takes seven times as long outside of a softmax, where it underflows.

    It makes each row's sum anew, and keeps no log-sum-exp.
    """

    def first(self, logits: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        torch.softmax(logits, dim=-1, out=out)
        ones = logits.new_ones(*logits.shape[:-1], 1)
        return ones, ones

    def from_lse(self, logits: Tensor, lse: Tensor, out: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1, out=out)


class CompiledSoftmax(Softmax):
    """exp(x - max), then exp(x - log-sum-exp).

    Args:
        loop: see `exponential_loop`.
    """

    def __init__(self, loop: CompiledFunction) -> None:
        self.loop = loop

    def first(self, logits: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        largest = logits.amax(-1, keepdim=True)
        self.loop(*(x.flatten(0, 1) for x in (logits, largest, out)))
        total = out.sum(-1, keepdim=True)
        return total, total.log().add_(largest)

    def from_lse(self, logits: Tensor, lse: Tensor, out: Tensor) -> Tensor:
        self.loop(*(x.flatten(0, 1) for x in (logits, lse, out)))
        return out


def softmax(dtype: torch.dtype, compiled: bool) -> Softmax:
    """By a compiled loop where that is wanted, and can be had."""
    loop = exponential_loop(dtype) if compiled else None
    return StockSoftmax() if loop is None else CompiledSoftmax(loop)
