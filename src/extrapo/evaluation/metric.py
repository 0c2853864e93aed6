"""Loss and token count of one evaluation length, summed exactly and over all ranks; in all, or block by block."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class LengthNLL(Metric):
    """Sums negative log-likelihoods in float64 and counts tokens in int64; ranks add up on `compute`.

    torchmetrics' own Perplexity takes softmax before the logarithm and sums in float32: over long texts it is wrong in
    the third digit, and infinite for confident mistakes.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, losses: Tensor) -> None:
        """Add the losses of some tokens, in nats, any shape."""
        self.nll += losses.sum(dtype=torch.float64)
        self.tokens += losses.numel()

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean negative log-likelihood in nats (float64; nan before the first token), and the tokens it is over."""
        return self.nll / self.tokens, self.tokens.clone()


class BlockNLL(Metric):
    """The same, separately for blocks of the text.

    Args:
        blocks: how many.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    tokens: Tensor

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros(blocks, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros(blocks, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, losses: Tensor, block: Tensor) -> None:
        """Add the losses of some tokens, in nats, each to the block of its number; equal shapes."""
        block = block.flatten()
        self.nll.index_add_(0, block, losses.flatten().double())
        self.tokens.index_add_(0, block, torch.ones_like(block))

    def compute(self) -> tuple[Tensor, Tensor]:
        """(blocks,) sums of losses in nats (float64), and of tokens."""
        return self.nll.clone(), self.tokens.clone()
