"""Coherence and mixing window of accumulated transforms (2606.24975): how fast the turns between two tokens lose phase.

    C_c(n) = |E exp(i psi_c)|,  psi_c the angle by which plane c turns over n tokens;  i.i.d. angles: |chi_c|^n
    W(eps) = min { n : C(n) <= eps },  of a head: C(n) = sum of e_c C_c(n), e_c the planes' shares of |q_c| |k_c|

A mean angle m_c does not lower the coherence: it turns E exp(i psi) by n m_c, which is why random angles of a positive
mean fail past T as RoPE does. Reported beside it: the planes that have not yet turned once at T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: No further than this is a mixing window looked for.
FARTHEST = 2**62


def uniform(t: Tensor | float) -> Tensor:
    """|chi| of angles U(-t, t), and of U(0, 2t): |sin t / t|."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.sinc(t / math.pi).abs()


def signs(t: Tensor | float) -> Tensor:
    """|chi| of angles +t or -t: |cos t|."""
    return torch.as_tensor(t, dtype=torch.float64).cos().abs()


def gaussian(s: Tensor | float) -> Tensor:
    """|chi| of angles N(0, s^2): e^(-s^2 / 2)."""
    return (-torch.as_tensor(s, dtype=torch.float64).square() / 2).exp()


def householder(beta: Tensor | float, width: int) -> Tensor:
    """What a Householder step I - beta w w^T leaves of the mean <x, H x>, w isotropic: 1 - beta/d (PaTH).

    Only beta 0 and 2 are orthogonal: between, this holds the norm that is lost as well.
    """
    return 1 - torch.as_tensor(beta, dtype=torch.float64) / width


def householder_norm(beta: Tensor | float, width: int) -> Tensor:
    """What such a step leaves of E |x|^2: 1 - (2 beta - beta^2)/d."""
    beta = torch.as_tensor(beta, dtype=torch.float64)
    return 1 - (2 * beta - beta.square()) / width


def mixing_window(chi: Tensor | float, eps: float, energy: Tensor | None = None) -> float:
    """W(eps) in tokens of i.i.d. steps, inf where it never mixes.

    Args:
        chi: (planes,) |chi_c|, what one step leaves; one number for one plane.
        eps: in (0, 1).
        energy: (planes,) the planes' shares of the content; None is equal ones.
    """
    chi = torch.as_tensor(chi, dtype=torch.float64).reshape(-1).clamp(0, 1)
    share = torch.full_like(chi, 1 / chi.numel()) if energy is None else energy / energy.sum()
    # A step that leaves all but a rounding error does not mix.
    chi = torch.where(chi > 1 - 1e-12, 1.0, chi)

    def mixed(n: int) -> bool:
        return float((share * chi.pow(n)).sum()) <= eps * (1 + 1e-12)

    low, high = 0, 1
    while not mixed(high):
        low, high = high, 2 * high
        if high > FARTHEST:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if mixed(middle) else (middle, high)
    return float(high)


class Coherence(NamedTuple):
    """What is left over some distances of planes that tokens turn, (H, distances, planes) each.

    Args:
        value: C_c(n).
        error: its standard error, from as many stretches of n tokens as do not overlap.
        size: sqrt(E |turn|^2), 1 for rotations: a transform that also shrinks loses more than phase.
        phase: the angle of the mean turn, in (-pi, pi].
    """

    value: Tensor
    error: Tensor
    size: Tensor
    phase: Tensor


def measured(queries: Tensor, keys: Tensor, distances: Sequence[int]) -> Coherence:
    """Coherence over a text, the mean over its queries, each over what it has with its own key: a scale of the logits
    that grows along the text, as log-n, is no turn.

    Args:
        queries: (H, T, planes) complex, what the transform makes of 1 in each plane of a query.
        keys: the same of a key.
        distances: n, each below T.
    """
    parts = []
    queries = queries / (queries * keys.conj()).abs().clamp_min(1e-300)
    for n in distances:
        turns = queries[:, n:] * keys[:, : keys.size(1) - n].conj()
        mean = turns.mean(1)
        direction = torch.where(mean.abs() > 0, mean / mean.abs().clamp_min(1e-300), 1.0)
        along = (turns * direction.conj().unsqueeze(1)).real
        independent = max(2.0, turns.size(1) / max(n, 1))
        error = along.var(1, correction=0).sqrt() / math.sqrt(independent)
        parts.append(Coherence(mean.abs(), error, turns.abs().square().mean(1).sqrt(), mean.angle()))
    return Coherence(*(torch.stack(values, dim=1) for values in zip(*parts, strict=True)))


def of_steps(steps: Tensor, distances: Sequence[int]) -> Coherence:
    """Coherence of angles delta that add up, (H, T, planes) radians per token."""
    total = torch.polar(torch.ones((), dtype=torch.float64), steps.double().cumsum(1))
    return measured(total, total, distances)


def unseen_planes(phase: Tensor, length: int) -> Tensor:
    """How many planes turn on average, but not once within `length`: (..., planes) angles per token -> (...).

    At longer texts their phases are ones that training never had, as RoPE's slow planes have.
    """
    turned = phase.abs() * length
    return ((turned > 1e-6) & (turned < 2 * math.pi)).sum(-1)
