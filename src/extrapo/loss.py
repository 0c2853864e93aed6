"""Cross-entropy in chunks of rows: the B x T x V logits of a long text never exist at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Logits computed at a time: 2^24 floats are 64 MiB.
CHUNK_LOGITS = 2**24

#: Rows of a chunk in training on a CPU, at most: its logits are read again while the cache has them.
CACHED_ROWS = 256


def chunk_rows(vocab_size: int) -> int:
    """Rows of a chunk for a vocabulary of this size."""
    return max(64, CHUNK_LOGITS // vocab_size)


def _log_softmax(logits: Tensor) -> Tensor:
    """(N, V) -> (N, V), in float32 at least."""
    return logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _nll(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    return -log_probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)


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
    chunks = zip(torch.split(hidden.flatten(0, 1), rows), torch.split(targets.flatten(), rows), strict=True)
    return torch.cat([_nll(_log_softmax(F.linear(h, weight)), t) for h, t in chunks]).view(targets.shape)


def mean_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The training loss: mean negative log-likelihood, a scalar with first derivatives alone; shapes as `token_nll`."""
    rows = chunk_rows(weight.size(0))
    if hidden.is_cpu:
        rows = min(rows, CACHED_ROWS)
    mean: Tensor = _MeanNLL.apply(hidden.flatten(0, 1), weight, targets.flatten(), rows)  # type: ignore[no-untyped-call]
    return mean


class _MeanNLL(torch.autograd.Function):
    """The gradient with respect to a chunk's logits, softmax minus one-hot, is made while they are there and goes at
    once into those of `hidden` and `weight`: neither are logits kept, nor computed twice (Liger Kernel, 2410.10989).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        """(N, D), (V, D), (N) -> the mean."""
        of_hidden, of_weight = ctx.needs_input_grad[:2]
        hidden_grad = torch.empty_like(hidden) if of_hidden else None
        weight_grad = torch.zeros_like(weight) if of_weight else None
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for first in range(0, hidden.size(0), rows):
            part = slice(first, first + rows)
            h, t = hidden[part], targets[part]
            logits = F.linear(h, weight)
            log_probabilities = _log_softmax(logits)
            total += _nll(log_probabilities, t).sum(dtype=torch.float64)
            grad = log_probabilities.exp_()
            grad[torch.arange(t.size(0), device=t.device), t] -= 1
            # Under autocast the products are of half precision, and their sums of the weights'.
            grad = grad.to(logits.dtype)
            if hidden_grad is not None:
                hidden_grad[part] = grad @ weight.to(grad.dtype)
            if weight_grad is not None and weight.dtype == grad.dtype:
                weight_grad.addmm_(grad.T, h)
            elif weight_grad is not None:
                weight_grad += grad.T @ h.to(grad.dtype)
        ctx.count = hidden.size(0)
        ctx.save_for_backward(hidden_grad, weight_grad)
        return (total / hidden.size(0)).to(torch.promote_types(hidden.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, made above."""
        scale = scale / ctx.count
        grads = [None if grad is None else grad * scale.to(grad.dtype) for grad in ctx.saved_tensors]
        return *grads, None, None
