"""Cross-entropy in chunks of rows: the B x T x V logits of a long text never exist at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

#: Logits computed at a time: 2^24 floats are 64 MiB.
CHUNK_LOGITS = 2**24


def chunk_rows(vocab_size: int) -> int:
    """Rows of a chunk for a vocabulary of this size."""
    return max(64, CHUNK_LOGITS // vocab_size)


def _row_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(hidden, weight)
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none")


def token_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target in nats.

    Args:
        hidden: (B, T, D), what the output layer reads.
        weight: (V, D), the output layer.
        targets: (B, T) token ids.

    Returns:
        (B, T) float32, or float64 where the model is.
    """
    rows = chunk_rows(weight.size(0))
    flat, wanted = hidden.flatten(0, 1), targets.flatten()
    parts = [_row_losses(h, weight, t) for h, t in zip(torch.split(flat, rows), torch.split(wanted, rows), strict=True)]
    return torch.cat(parts).view(targets.shape)


def mean_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The training loss: mean negative log-likelihood, a chunk's logits made again in the backward pass.

    Shapes as `token_nll`; returns a scalar. One chunk is kept whole: there recomputation would only cost time.
    """
    rows = chunk_rows(weight.size(0))
    flat, wanted = hidden.flatten(0, 1), targets.flatten()
    if flat.size(0) <= rows:
        return _row_losses(flat, weight, wanted).mean()
    total = flat.new_zeros((), dtype=torch.float32)
    for h, t in zip(torch.split(flat, rows), torch.split(wanted, rows), strict=True):
        losses = checkpoint(_row_losses, h, weight, t, use_reentrant=False)
        assert isinstance(losses, Tensor)
        total = total + losses.sum()
    return total / flat.size(0)
