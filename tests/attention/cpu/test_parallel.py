"""Threads that share work: who computes, what they leave as it was, and what happens when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extrapo.attention import workers
from extrapo.attention.cpu.parallel import chains, pool, share, share_chains, worker_count

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
    both = threading.Barrier(2, timeout=60)

    def work(worker: int) -> None:
        both.wait()
        seen[worker] = threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()

    with torch.enable_grad():
        share(work, 2)
        assert torch.is_grad_enabled()
    assert {threads for _, threads, _ in seen.values()} == {1}
    assert len({name for name, _, _ in seen.values()}) == 2
    assert not any(grad for _, _, grad in seen.values())
    assert torch.get_num_threads() == 2


def test_who_computes_nothing_at_first_has_one_core_later() -> None:
    """A thread's first operation takes over the number of threads that was set last, by whichever thread."""
    pool.cache_clear()
    both = threading.Barrier(2, timeout=60)
    seen: list[int] = []

    def idle(worker: int) -> None:
        both.wait()

    def work(worker: int) -> None:
        both.wait()
        seen.append(torch.get_num_threads())

    share(idle, 2)
    share(work, 2)
    assert seen == [1, 1]


def test_the_callers_own_helpers_are_let_go_of_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the caller, whose they are, and before anybody computes; not where it computes itself."""
    events: list[str] = []
    monkeypatch.setattr(workers, "release_threads", lambda: events.append(threading.current_thread().name))
    share(lambda worker: events.append("work"), 1)
    assert events == ["work"]
    share(lambda worker: events.append("work"), 2)
    assert events[1:] == [threading.current_thread().name, "work", "work"]


def test_the_threads_stay() -> None:
    names: list[set[str]] = []
    both = threading.Barrier(2, timeout=60)
    for _ in range(3):
        found: set[str] = set()

        def work(worker: int, found: set[str] = found) -> None:
            both.wait()
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


@given(count=st.integers(1, 60), workers=st.integers(1, 5))
def test_chains_hold_every_tile_once_and_are_as_long_as_one_another(count: int, workers: int) -> None:
    tiles = [slice(0, stop) for stop in range(count, 0, -1)]
    found = chains(tiles, workers)
    assert sorted(tile.stop for chain in found for tile in chain) == [*range(1, count + 1)]
    assert len(found) == (1 if workers == 1 else min(count, workers + 1))
    assert all([*chain] == sorted(chain, key=lambda tile: -tile.stop) for chain in found)
    sizes = [sum(tile.stop for tile in chain) for chain in found]
    assert max(sizes) - min(sizes) <= 2 * count


def test_a_chain_keeps_its_order_whoever_is_slow() -> None:
    """One worker sleeps at its first tile: the other does all else, no chain has two tiles at work at a time."""
    tiles = [slice(0, stop) for stop in range(12, 0, -1)]
    done: list[list[slice]] = [[], [], []]
    by: list[int] = []
    busy = [threading.Lock() for _ in done]

    def work(worker: int, chain: int, tile: slice) -> None:
        with busy[chain]:
            by.append(worker)
            time.sleep(0.4 if worker == 1 and by.count(1) == 1 else 0.005)
            done[chain].append(tile)

    parts = chains(tiles, 2)
    before = time.perf_counter()
    share_chains(work, parts, 2)
    assert time.perf_counter() - before < 0.8
    assert done == parts
    assert by.count(0) > by.count(1)
