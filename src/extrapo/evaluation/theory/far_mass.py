"""Far mass (2606.24975): what share of a query's attention lies beyond the nearest N of its keys.

    m_F = sum over n >= N of p_n;   |logit| <= S gives m_F >= 1 / (1 + (N/F) e^(2S)), F the number of far keys
    D_i = [LSE_near - ln N] - [LSE_far - ln F]   gives m_N = 1 / (1 + (F/N) e^(-D_i)) exactly
    D, the mean near logit over the *mean* far one, with tau^2 their variance: m_N is about that at D_i = D - tau^2/2

tau^2/2 is inside D_i already: the two gaps do not mix. The formulas are a reconstruction from the paper's abstract.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class FarMass(NamedTuple):
    """Of one query's logits by distance, (...) each; NaN where there are no far keys."""

    mass: Tensor  # m_F
    gap: Tensor  # D_i, of log-mean-exps
    mean_gap: Tensor  # D, of the log-mean-exp of the near over the mean of the far
    variance: Tensor  # tau^2, of the far logits
    half_mass_length: Tensor  # F* = N e^D_i, far keys at which half of the mass is far, at this gap
    bound: Tensor  # the least m_F that logits of this spread allow


def far_mass(logits: Tensor, near: int) -> FarMass:
    """How much of the attention is far, and why.

    Args:
        logits: (..., L) by distance 0..L-1, -inf where a key is not seen, in the gauge of `bound`: |logit| <= S.
        near: N, the number of keys that count as near.
    """
    logits = logits.double()
    close, far = logits[..., :near], logits[..., near:]
    if far.size(-1) == 0:
        nothing = torch.full(logits.shape[:-1], math.nan, dtype=torch.float64)
        return FarMass(nothing, nothing, nothing, nothing, nothing, nothing)
    close_lse, far_lse = close.logsumexp(-1), far.logsumexp(-1)
    mass = (far_lse - logits.logsumexp(-1)).exp()
    seen = far.isfinite()
    count = seen.sum(-1).double()
    mean = far.masked_fill(~seen, 0.0).sum(-1) / count
    variance = (far - mean.unsqueeze(-1)).square().masked_fill(~seen, 0.0).sum(-1) / count
    level = close_lse - close.isfinite().sum(-1).double().log()
    gap = level - (far_lse - count.log())
    # The same for logits that are all moved: the middle of their spread is 0.
    visible = logits.isfinite()
    spread = logits.amax(-1) - logits.masked_fill(~visible, math.inf).amin(-1)
    bound = lower_bound(close.isfinite().sum(-1).double(), count, spread / 2)
    return FarMass(mass, gap, level - mean, variance, close.isfinite().sum(-1) * gap.exp(), bound)


def lower_bound(near: Tensor | float, far: Tensor | float, limit: Tensor | float) -> Tensor:
    """1 / (1 + (N/F) e^(2S)), of logits within +-S. It passes 1/2 at F = N e^(2S): a proof of the limit only."""
    n, f, s = (torch.as_tensor(x, dtype=torch.float64) for x in (near, far, limit))
    return 1 / (1 + n / f * (2 * s).exp())


def near_mass(near: int, far: int, gap: float, variance: float = 0.0) -> float:
    """m_N at D: exact for far logits that are all alike, else of Gaussian ones of this variance, in the mean."""
    return 1 / (1 + far / near * math.exp(variance / 2 - gap))


def half_mass_length(near: int, gap: float, variance: float = 0.0) -> float:
    """F* = N e^(D - tau^2/2), in far keys: the text is N + F* long. With D_i in the place of D, tau^2 is 0."""
    return near * math.exp(gap - variance / 2)


def onset_with_values(near: int, gap: float) -> float:
    """F** = (N e^D)^2: where values turn too, and far ones are incoherent, sqrt(F) takes the place of F."""
    far = half_mass_length(near, gap)
    return far * far


def log_n_peak(length: int, c_gap: float) -> float:
    """The weight of one key that is D above the L - 1 others, under logits times c ln L: 1 / (1 + (L - 1) L^(-c D))."""
    return 1 / (1 + (length - 1) * math.exp(-c_gap * math.log(length)))


def far_coherence(weights: Tensor, values: Tensor, near: int) -> tuple[Tensor, Tensor]:
    """kappa = |sum of p R v| / sum of p |v| over the far keys, and what it is where they are incoherent, 1/sqrt(N_eff).

    Args:
        weights: (..., L) p by distance.
        values: (..., L, e) by distance, as attention adds them up: turned, where a scheme turns them.
        near: N.

    Returns:
        (...), (...), NaN where nothing is far.
    """
    p, v = weights[..., near:].double(), values[..., near:, :].double()
    total = (p.unsqueeze(-2) @ v).squeeze(-2).norm(dim=-1)
    kappa = total / (p * v.norm(dim=-1)).sum(-1)
    return kappa, p.square().sum(-1).sqrt() / p.sum(-1)
