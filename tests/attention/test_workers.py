"""Threads that share work: who computes, what they leave as it was, and what happens when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from extrapo.attention.workers import share, worker_count

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_how_many() -> None:
    assert worker_count(CPU, 2) == worker_count(CPU, 9) == 2
    assert worker_count(CPU, 1) == 1, "one tile has all threads"
    assert worker_count(torch.device("meta"), 9) == 1


def test_each_has_a_thread_of_its_own_and_one_core() -> None:
    seen: dict[int, tuple[str, int, bool]] = {}

    def work(worker: int) -> None:
        time.sleep(0.05)
        seen[worker] = threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()

    with torch.enable_grad():
        share(work, 2)
        assert torch.is_grad_enabled()
    assert {threads for _, threads, _ in seen.values()} == {1}
    assert len({name for name, _, _ in seen.values()}) == 2
    assert not any(grad for _, _, grad in seen.values())
    assert torch.get_num_threads() == 2


def test_the_threads_stay() -> None:
    names: list[set[str]] = []
    for _ in range(3):
        found: set[str] = set()

        def work(worker: int, found: set[str] = found) -> None:
            time.sleep(0.02)
            found.add(threading.current_thread().name)

        share(work, 2)
        names.append(found)
    assert names[0] == names[1] == names[2]


def test_small_numbers_vanish_there_and_nowhere_else() -> None:
    """Denormal numbers are flushed where tiles are computed; the caller's arithmetic is as it was."""
    small, sums = torch.full((8,), 1e-40), [torch.ones(()), torch.ones(())]

    def work(worker: int) -> None:
        sums[worker] = (small * 1.0).sum()

    share(work, 2)
    supported = torch.set_flush_denormal(False)
    assert [float(total) for total in sums] == [0.0 if supported else float(small.sum())] * 2
    assert (small * 1.0).sum() > 0


def test_all_have_ended_when_an_error_is_raised() -> None:
    ended = []

    def work(worker: int) -> None:
        if worker == 0:
            raise ZeroDivisionError
        time.sleep(0.1)
        ended.append(worker)

    with pytest.raises(ZeroDivisionError):
        share(work, 2)
    assert ended == [1]
    assert torch.get_num_threads() == 2
