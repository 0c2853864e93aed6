"""Receptive fields: of the biases alone (2307.10156), and by the cumulative normalised gradient (Sandwich, 2212.10356).

    w_h(eps) = min { n : sum over m < n of e^b(m) >= (1 - eps) Z };   a network sees at most 1 + sum of (max_h w_h - 1)
    s_m = |d y / d e_m|_2,   c_n = sum of s over the last n tokens / sum of all,   ERF_99 = min { n : c_n >= 0.99 }

y is the loss of the last token, e_m the embedding of token m. Where ERF_99 <= T, Sandwich finds that an encoding
extrapolates; a curve that is the same at 4T as at T says that the model ignores what is beyond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.gpt import GPT

SHARES = (0.5, 0.9, 0.99)


def linear_window(slope: float, eps: float) -> int:
    """w(eps) = ceil(ln(1/eps) / m) under a bias of -m n (ALiBi)."""
    return math.ceil(-math.log(eps) / slope)


def network_bound(windows: Iterable[Sequence[float]]) -> float:
    """The most tokens that layers can reach over which the windows of these heads lie, a sequence per layer."""
    return 1 + sum(max(heads) - 1 for heads in windows)


def cumulative_gradient(model: GPT, tokens: Tensor) -> Tensor:
    """c_1 ... c_L, the mean over texts.

    Args:
        model: in evaluation mode; no gradient of its weights is kept.
        tokens: (B, L + 1) ids, the last of each the target.

    Returns:
        (L,) float64, never falling, up to 1.
    """
    total = torch.zeros(tokens.size(1) - 1, dtype=torch.float64)
    for text in tokens:
        strength = gradient(model, text.unsqueeze(0)).double().cpu()
        total += strength.flip(0).cumsum(0) / strength.sum().clamp_min(1e-300)
    return total / len(tokens)


def gradient(model: GPT, text: Tensor) -> Tensor:
    """s_0 ... s_{L-1} of one text (1, L + 1)."""
    embedded: list[Tensor] = []

    def leaf(module: object, inputs: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    hook = model.embedding.register_forward_hook(leaf)
    try:
        with torch.enable_grad():
            last = model.hidden(text[:, :-1])[:, -1]
            loss = F.cross_entropy(model.unembedding(last).float(), text[:, -1])
            (grad,) = torch.autograd.grad(loss, embedded)
    finally:
        hook.remove()
    strength: Tensor = grad[0].norm(dim=-1)
    return strength


def reached(cumulative: Tensor, share: float) -> int:
    """ERF of a share: the nearest tokens, in number, that hold so much of the gradient."""
    return int((cumulative >= share - 1e-12).int().argmax()) + 1
