"""A mean loss in the units of papers: perplexity, bits per byte."""

from __future__ import annotations

import math


def perplexity(nll: float) -> float:
    """exp of a mean loss in nats; infinite where it overflows, and NaN of a loss that is none."""
    return math.inf if nll >= 700 else math.exp(nll)


def bits_per_byte(nll: float, size: int) -> float:
    """The total loss of a text in nats, as bits for each of its bytes: the same for any tokenizer."""
    return nll / math.log(2) / size
