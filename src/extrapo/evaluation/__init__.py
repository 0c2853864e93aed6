"""Evaluation past the training length: protocols, the metric, the curve."""

from __future__ import annotations

from extrapo.evaluation.curve import Point, Progress, Scorer, extrapolation_curve
from extrapo.evaluation.metric import LengthNLL, perplexity
from extrapo.evaluation.protocols import PROTOCOLS, Protocol, default_lengths, protocol, tokens_to_score

__all__ = [
    "PROTOCOLS",
    "LengthNLL",
    "Point",
    "Progress",
    "Protocol",
    "Scorer",
    "default_lengths",
    "extrapolation_curve",
    "perplexity",
    "protocol",
    "tokens_to_score",
]
