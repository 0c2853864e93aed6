"""Interleaved timing: every contender once per round, so that a busy moment of the machine meets all of them.

A ratio is the median over the rounds of a contender's time over the reference's in the same round, and its interval is
one of order statistics: it supposes nothing of how times scatter.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

#: A run of one contender: seconds of each phase.
Run = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Timing:
    """One phase of one contender.

    Args:
        seconds: median over the rounds.
        low, high: first and third quartile.
        least: the fastest round.
        ratio: median over the rounds of its time over the reference's in the same round.
        ratio_low, ratio_high: interval of that median, see `median_interval`.
        rounds: that count.
    """

    seconds: float
    low: float
    high: float
    least: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int


class Stopwatch:
    """Seconds since the last look; on a GPU, once it has done what it was told.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.at = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        before, self.at = self.at, self._now()
        return self.at - before


def interleave(
    runs: Mapping[str, Run],
    reference: str,
    *,
    seconds: float,
    most: int = 50,
    least: int = 3,
    warm: int = 1,
    steady: Collection[str] = (),
) -> dict[str, dict[str, Timing]]:
    """Time all contenders in rounds, after some that are not counted and a first run of the reference, in which the
    process gets its memory.

    Args:
        runs: contender -> run.
        reference: the contender that ratios are taken to.
        seconds: rounds go on for about so long.
        most, least: bounds on the rounds that count.
        warm: rounds that do not.
        steady: contenders that take part in two of the rounds that count: so slow that one is like another.

    Returns:
        contender -> phase -> timing.
    """
    began = time.perf_counter()
    samples: dict[str, list[Mapping[str, float]]] = {name: [] for name in runs}
    runs[reference]()
    for count in range(1 - warm, most + 1):
        for name, run in runs.items():
            if name in steady and count not in (1, 2):
                continue
            sample = run()
            if count > 0:
                samples[name].append(sample)
        spent, rounds = time.perf_counter() - began, count + warm
        if count >= least and spent * (rounds + 1) / rounds > seconds:
            break
    return {
        name: {
            phase: timing([s[phase] for s in taken], [s[phase] for s in samples[reference][: len(taken)]])
            for phase in taken[0]
        }
        for name, taken in samples.items()
    }


def timing(taken: Sequence[float], reference: Sequence[float]) -> Timing:
    """One phase of one contender, from its times round by round and the reference's."""
    low, middle, high = statistics.quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else [taken[0]] * 3
    ratios = [a / b for a, b in zip(taken, reference, strict=True)]
    return Timing(
        middle, low, high, min(taken), statistics.median(ratios), *median_interval(ratios), rounds=len(ratios)
    )


def median_interval(values: Sequence[float], confidence: float = 0.99) -> tuple[float, float]:
    """Order statistics between which the median of independent values lies with `confidence`; all of the range where
    they are too few for that.
    """
    ordered, count = sorted(values), len(values)
    outside, cut = 0.0, 0
    while cut < (count - 1) // 2:
        # Chance that no more than `cut` values lie on one side of the median.
        outside += 2 * math.comb(count, cut) / 2**count
        if outside > 1 - confidence:
            break
        cut += 1
    first = max(0, cut - 1)
    return ordered[first], ordered[count - 1 - first]
