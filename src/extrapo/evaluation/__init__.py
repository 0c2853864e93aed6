"""Evaluation past the training length: protocols, the metric, the curve.

lengths       which lengths, and how many targets all of them can be scored on
protocols/    which windows of a text are shown, and which of their targets are scored
reading       over the borders of documents or not, and what stands before a window
batches       these windows, read from the text
metric        the loss of one length, summed exactly
scores        a curve in a few numbers
probes/       whether a model finds what stands far back
theory/       what the papers prove of an encoding, as numbers; imported by its own name
look          what attention does pair by pair on one short text; imported by its own name
uncertainty   how sure it is, and whether two runs differ; comparison of groups over seeds
curve         loss against length
"""

from __future__ import annotations

from extrapo.config.evaluation import default_lengths
from extrapo.evaluation.batches import WindowBatch, batch_windows
from extrapo.evaluation.curve import Point, PositionLoss, Progress, Scorer, extrapolation_curve
from extrapo.evaluation.lengths import tokens_to_score
from extrapo.evaluation.metric import LengthNLL, bits_per_byte, perplexity
from extrapo.evaluation.protocols import PROTOCOLS, Protocol, ScoredWindow, protocol, protocol_of
from extrapo.evaluation.reading import Reading
from extrapo.evaluation.uncertainty import BlockLosses, Difference, Interval, difference, interval

__all__ = [
    "PROTOCOLS",
    "BlockLosses",
    "Difference",
    "Interval",
    "LengthNLL",
    "Point",
    "PositionLoss",
    "Progress",
    "Protocol",
    "Reading",
    "ScoredWindow",
    "Scorer",
    "WindowBatch",
    "batch_windows",
    "bits_per_byte",
    "default_lengths",
    "difference",
    "extrapolation_curve",
    "interval",
    "perplexity",
    "protocol",
    "protocol_of",
    "tokens_to_score",
]
