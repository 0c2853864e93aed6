"""Rounds, what counts of them, and ratios within one."""

from __future__ import annotations

import pytest
import torch

from extrapo.bench.timing import Stopwatch, interleave, median_interval, timing


def test_rounds_are_interleaved_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def contender(name: str, seconds: float) -> dict[str, float]:
        order.append(name)
        return {"forward": 100.0 if len(order) <= 3 else seconds}

    found = interleave({n: lambda n=n, s=s: contender(n, s) for n, s in {"a": 1.0, "b": 3.0}.items()}, "a", seconds=0)
    assert order == ["a", *["a", "b"] * 4], "the process gets its memory in a run of the reference"
    assert found["b"]["forward"].ratio == 3
    assert found["a"]["forward"].seconds == 1


def test_what_is_warm_counts_from_the_first_round() -> None:
    order: list[int] = []

    def contender() -> dict[str, float]:
        order.append(len(order))
        return {"step": float(len(order))}

    found = interleave({"a": contender}, "a", seconds=0, least=2, warm=0)
    assert len(order) == 3, "one before all rounds"
    assert found["a"]["step"].seconds == 2.5


def test_what_is_steady_takes_part_in_two_rounds() -> None:
    order: list[str] = []

    def contender(name: str) -> dict[str, float]:
        order.append(name)
        return {"forward": 1.0}

    runs = {name: lambda name=name: contender(name) for name in ("a", "b", "c")}
    found = interleave(runs, "a", seconds=60, least=1, most=3, steady={"b"})
    assert order == ["a", "a", "c", "a", "b", "c", "a", "b", "c", "a", "c"]
    assert found["b"]["forward"].ratio == 1


def test_a_ratio_is_taken_within_a_round() -> None:
    """A round in which the whole machine was ten times slower changes no ratio."""
    found = timing([2.0, 20.0, 2.0, 2.0], [1.0, 10.0, 1.0, 1.0])
    assert found.ratio == 2
    assert (found.low, found.seconds, found.high) == (2, 2, 6.5)


def test_laps_follow_one_another() -> None:
    """Each counts from the last: together they are all the time there was."""
    stopwatch = Stopwatch(torch.device("cpu"))
    began = stopwatch.at
    laps = [stopwatch.lap() for _ in range(5)]
    assert min(laps) >= 0
    assert sum(laps) == pytest.approx(stopwatch.at - began, abs=1e-9)


def test_a_few_rounds_have_all_their_range_for_an_interval() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1, 3)
    assert median_interval([4.0]) == (4, 4)
    assert median_interval([float(n) for n in range(7)]) == (0, 6)


def test_an_interval_holds_the_median_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (8, 15, 40):
        samples = torch.rand(2000, count, generator=generator)
        inside = sum(low <= 0.5 <= high for low, high in map(median_interval, samples.tolist()))
        assert inside / 2000 >= 0.985, count
    low, high = median_interval([float(n) for n in range(50)])
    assert (low, high) == (15, 34), "order statistics 16 and 35 of 50, from tables of the binomial"
