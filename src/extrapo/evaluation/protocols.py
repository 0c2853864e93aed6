"""Protocols: which windows of a text are shown to the model, and which of their tokens are scored.

A perplexity at length L means nothing without one. Window is what the model sees at once, stride is how far it moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from extrapo.errors import UserError, unknown


@dataclass(frozen=True)
class Protocol:
    """A named way to cover a text with windows of one length.

    Args:
        name: what curves are recorded under.
        length: the window in tokens, which is the evaluation length L.
        stride: tokens the window moves by.
    """

    name: str
    length: int
    stride: int

    def windows(self, scored: int) -> Iterator[int]:
        """Index of the first input token of each window, over `scored` targets (token 1 to token `scored`)."""
        return iter(range(0, scored - self.length + 1, self.stride))

    def count(self, scored: int) -> int:
        """Number of windows over `scored` targets."""
        return max(0, (scored - self.length) // self.stride + 1)


def disjoint(length: int) -> Protocol:
    """Windows side by side: inputs t..t+L-1 predict t+1..t+L, every target is scored once, from 1 to L tokens of past.

    The first tokens of a window see little: longer windows have fewer of them, so that even a model that only looks
    at its neighbours gains a little with L. The ALiBi paper calls this nonoverlapping inference.
    """
    return Protocol("disjoint", length, length)


PROTOCOLS = {"disjoint": disjoint}


def protocol(name: str, length: int) -> Protocol:
    """The protocol called `name` at evaluation length `length`."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name](length)


def default_lengths(train_length: int) -> list[int]:
    """T/2, T, 2T, 4T, 8T, 16T."""
    return [max(1, train_length // 2), *(train_length * factor for factor in (1, 2, 4, 8, 16))]


def tokens_to_score(lengths: list[int], available: int, wanted: int) -> int:
    """How many targets every length is scored on: the same for all, so that lengths differ in context alone.

    The largest number within `wanted` and within the text that every length divides. Where there is none (lengths
    such as 511 and 512 meet too late), windows of the longest length decide, and a shorter one may leave out less
    than a window at the end: the curve's own token counts say so.

    Args:
        lengths: evaluation lengths in tokens.
        available: tokens of the text.
        wanted: targets to score, at most (raised to one window of the longest length).
    """
    if not lengths:
        raise UserError("no evaluation length is given")
    longest = max(lengths)
    if min(lengths) < 1:
        raise UserError(f"an evaluation length must be at least 1, not {min(lengths)}")
    if longest + 1 > available:
        raise UserError(
            f"the evaluation text has {available} tokens, shorter than one window of {longest} (and its last target)"
        )
    scored = min(available - 1, max(wanted, longest))
    common = math.lcm(*lengths)
    unit = common if common <= scored else longest
    return scored // unit * unit
