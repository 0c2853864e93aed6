"""Diagnostics of contextual positions (Cable 2503.08067, FoX 2503.02130): how the clock ticks that the tokens drive.

increments a_t = S_t - S_{t-1}: mean, coefficient of variation, share of zeros; window 1 / (g a) of the mean gate g
linearity: R^2 of S_t against t (1: it has learned ALiBi)
drift: the mean increment past T over that up to T (1: it goes on as in training)
by token: the share of the increments' variance that lies between token ids, and the ids that tick most and least
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.distance import DistanceBias
from extrapo.encodings.core.relative import Relative
from extrapo.evaluation.theory.tails import biases_within

#: Ids that are named, and how often one must have come to be among them.
NAMED, OFTEN = 10, 4


def positions(bias: Bias) -> tuple[Tensor, Tensor | None] | None:
    """S_t (H, T) of a layer's tokens and the gates g_t (H, T), where tokens drive them; None where they are places."""
    for one in biases_within(bias):
        if isinstance(one, Relative) and not one.consecutive() and one.keys.size(0) == 1:
            gate = one.gate if isinstance(one, DistanceBias) else None
            own = one.keys[0].detach().double()
            return own, None if gate is None else gate[0].detach().double()
    return None


def clock_rows(own: Tensor, gate: Tensor | None, tokens: Tensor, train_length: int) -> list[dict[str, Any]]:
    """A row per head.

    Args:
        own: (H, T) S_t.
        gate: (H, T) g_t, or None for 1.
        tokens: (T,) ids.
        train_length: T of the training.
    """
    rows = []
    for head in range(own.size(0)):
        s = own[head]
        steps = s.diff()
        mean, variance = float(steps.mean()), float(steps.var(correction=0))
        level = None if gate is None else float(gate[head].mean())
        early, late = steps[: train_length - 1], steps[train_length - 1 :]
        moves = mean * (1.0 if level is None else level)
        shares = by_token(steps, tokens[1:])
        rows.append(
            {
                "head": head,
                "increment": mean,
                "increment_cv": math.sqrt(variance) / abs(mean) if mean else None,
                "zeros": float((steps == 0).double().mean()),
                "gate": level,
                "gate_cv": None if gate is None or not level else float(gate[head].std(correction=0)) / level,
                "effective_window": 1 / moves if moves > 0 else None,
                "linearity": linearity(s),
                "drift": float(late.mean() / early.mean()) if late.numel() and float(early.mean()) else None,
                **shares,
            }
        )
    return rows


def linearity(s: Tensor) -> float:
    """R^2 of a line through S_t: (T,) -> a share, 1 for a clock that stands still."""
    t = torch.arange(s.numel(), dtype=torch.float64)
    t, s = t - t.mean(), s.cpu() - s.cpu().mean()
    total = float(s.square().sum())
    return float((t * s).sum()) ** 2 / (float(t.square().sum()) * total) if total > 0 else 1.0


def by_token(steps: Tensor, tokens: Tensor) -> dict[str, Any]:
    """How lexical the clock is: the between-id share of the variance, the ids of the largest and least mean increment.

    Args:
        steps: (N,) increments.
        tokens: (N,) the ids that made them.
    """
    tokens, steps = tokens.cpu(), steps.double().cpu()
    counts = torch.bincount(tokens).double()
    ids = counts.nonzero().flatten()
    counts, group = counts[ids], torch.bucketize(tokens, ids)
    means = torch.bincount(group, weights=steps) / counts
    overall = steps.mean()
    total = float((steps - overall).square().sum())
    between = float((counts * (means - overall).square()).sum())
    often = (counts >= OFTEN).nonzero().flatten()
    order = often[means[often].argsort()]
    return {
        "by_token": between / total if total > 0 else None,
        "most": [[int(ids[i]), float(means[i]), int(counts[i])] for i in order.flip(0)[:NAMED]],
        "least": [[int(ids[i]), float(means[i]), int(counts[i])] for i in order[:NAMED]],
    }
