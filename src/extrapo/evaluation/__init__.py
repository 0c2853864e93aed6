"""Evaluation past the training length: protocols, the metric, the curve.

lengths       which lengths, and how many targets all of them can be scored on
protocols/    which windows of a text are shown, and which of their targets are scored
reading       over the borders of documents or not, and what stands before a window
batches       these windows, read from the text
metric        the loss of one length, summed exactly; units it as perplexity and as bits per byte
scores        a curve in a few numbers
probes/       whether a model finds what stands far back
theory/       what the papers prove of an encoding, as numbers; imported by its own name
look          what attention does pair by pair on one short text; imported by its own name
uncertainty   how sure it is, and whether two runs differ; comparison of groups over seeds
curve         loss against length

A name is loaded when it is first used: recorded curves are compared without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extrapo.config.evaluation import default_lengths
    from extrapo.evaluation.batches import WindowBatch, batch_windows
    from extrapo.evaluation.curve import Point, PositionLoss, Progress, Scorer, extrapolation_curve
    from extrapo.evaluation.lengths import tokens_to_score
    from extrapo.evaluation.metric import LengthNLL
    from extrapo.evaluation.protocols import PROTOCOLS, Protocol, ScoredWindow, protocol, protocol_of
    from extrapo.evaluation.reading import Reading
    from extrapo.evaluation.uncertainty import BlockLosses, Difference, Interval, difference, interval
    from extrapo.evaluation.units import bits_per_byte, perplexity

#: Module -> what of it has a name here.
_PLACES = {
    "extrapo.config.evaluation": ("default_lengths",),
    "extrapo.evaluation.batches": ("WindowBatch", "batch_windows"),
    "extrapo.evaluation.curve": ("Point", "PositionLoss", "Progress", "Scorer", "extrapolation_curve"),
    "extrapo.evaluation.lengths": ("tokens_to_score",),
    "extrapo.evaluation.metric": ("LengthNLL",),
    "extrapo.evaluation.protocols": ("PROTOCOLS", "Protocol", "ScoredWindow", "protocol", "protocol_of"),
    "extrapo.evaluation.reading": ("Reading",),
    "extrapo.evaluation.uncertainty": ("BlockLosses", "Difference", "Interval", "difference", "interval"),
    "extrapo.evaluation.units": ("bits_per_byte", "perplexity"),
}

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


if not TYPE_CHECKING:  # for which every name would be one

    def __getattr__(name: str) -> Any:
        for module, names in _PLACES.items():
            if module == f"{__name__}.{name}":
                return import_module(module)
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(module.rpartition(".")[2] for module in _PLACES)} - {"evaluation"})
