"""Evaluation past the training length: protocols, the metric, the curve.

lengths       which lengths, and how many targets all of them can be scored on
protocols/    which windows of a text are shown, and which of their targets are scored
batches       these windows, read from the text
metric        the loss of one length, summed exactly
curve         loss against length
"""

from __future__ import annotations

from extrapo.config.evaluation import default_lengths
from extrapo.evaluation.batches import WindowBatch, batch_windows
from extrapo.evaluation.curve import Point, Progress, Scorer, extrapolation_curve
from extrapo.evaluation.lengths import tokens_to_score
from extrapo.evaluation.metric import LengthNLL, perplexity
from extrapo.evaluation.protocols import PROTOCOLS, Protocol, ScoredWindow, protocol

__all__ = [
    "PROTOCOLS",
    "LengthNLL",
    "Point",
    "Progress",
    "Protocol",
    "ScoredWindow",
    "Scorer",
    "WindowBatch",
    "batch_windows",
    "default_lengths",
    "extrapolation_curve",
    "perplexity",
    "protocol",
    "tokens_to_score",
]
