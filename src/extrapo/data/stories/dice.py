"""Randomness that is the same on every machine: integers from a seed, and a few ways of choosing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """One 64-bit number from several: the finaliser of SplitMix64 (Steele, Lea and Flood 2014), chained."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


class Dice:
    """Choices from one seed.

    Only `Random.random` is used: Python promises its sequence for all versions. A product with a small integer
    is exact in IEEE arithmetic, so that no machine rounds otherwise.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random

    def below(self, n: int) -> int:
        """0, 1 ... n - 1."""
        return int(self.random() * n)

    def chance(self, wins: int, of: int) -> bool:
        """True `wins` times of `of`."""
        return int(self.random() * of) < wins

    def between(self, low: int, high: int) -> int:
        """low, low + 1 ... high."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[int(self.random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of them in a new order (Fisher and Yates)."""
        deck = list(items)
        for i in range(len(deck) - 1, 0, -1):
            j = int(self.random() * (i + 1))
            deck[i], deck[j] = deck[j], deck[i]
        return deck

    def log_uniform(self, low: int, high: int) -> int:
        """low ... high, each octave as likely as another: an octave is drawn, then a place in it, evenly.

        In integers, since logarithms differ in their last digit between machines.
        """
        octaves = max(1, (high // max(1, low)).bit_length())
        while True:
            floor = low << int(self.random() * octaves)
            drawn = floor + int(self.random() * floor)
            if drawn <= high:
                return drawn
            if high < 2 * low:
                return low + int(self.random() * max(1, high - low + 1))
