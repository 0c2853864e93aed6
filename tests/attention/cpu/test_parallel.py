"""Threads that share work: who computes, what they leave as it was, and what happens when one fails."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from weakref import ref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extrapo.attention.cpu import parallel
from extrapo.attention.cpu.parallel import (
    Threads,
    balanced_groups,
    parallel_for,
    parallel_groups,
    pool,
    worker_count,
)
from processes import wait_for


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_how_many() -> None:
    assert worker_count(2) == worker_count(9) == 2
    assert worker_count(1) == 1, "one tile has all threads"


def test_each_has_a_thread_of_its_own_and_one_core() -> None:
    seen: dict[int, tuple[str, int, bool]] = {}
    both = threading.Barrier(2, timeout=60)

    def work(worker: int) -> None:
        both.wait()
        seen[worker] = threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()

    with torch.enable_grad():
        parallel_for(work, 2)
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

    parallel_for(idle, 2)
    parallel_for(work, 2)
    assert seen == [1, 1]


def test_the_callers_own_helpers_are_let_go_of_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the caller, whose they are, and before anybody computes; not where it computes itself."""
    events: list[str] = []
    monkeypatch.setattr(parallel, "release_threads", lambda: events.append(threading.current_thread().name))
    parallel_for(lambda worker: events.append("work"), 1)
    assert events == ["work"]
    parallel_for(lambda worker: events.append("work"), 2)
    assert events[1:] == [threading.current_thread().name, "work", "work"]


def test_the_threads_stay() -> None:
    names: list[set[str]] = []
    both = threading.Barrier(2, timeout=60)
    for _ in range(3):
        found: set[str] = set()

        def work(worker: int, found: set[str] = found) -> None:
            both.wait()
            found.add(threading.current_thread().name)

        parallel_for(work, 2)
        names.append(found)
    assert names[0] == names[1] == names[2]


def test_small_numbers_vanish_there_and_nowhere_else() -> None:
    """Denormal numbers are flushed where tiles are computed; the caller's arithmetic is as it was."""
    small, sums = torch.full((8,), 1e-40), [torch.ones(()), torch.ones(())]

    def work(worker: int) -> None:
        sums[worker] = (small * 1.0).sum()

    parallel_for(work, 2)
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
        parallel_for(work, 2)
    assert ended == [1]
    assert torch.get_num_threads() == 2


def test_all_have_ended_when_somebody_interrupts() -> None:
    """Ctrl-C while others compute: nobody writes on once the memory is somebody else's, and the threads serve again."""
    ended = []

    def work(worker: int) -> None:
        if worker == 0:
            # When the main thread waits: an interrupt amid a finalizer of Python's own is lost in any program.
            time.sleep(0.1)
            _thread.interrupt_main()
        time.sleep(0.2)
        ended.append(worker)

    # What started these tests in the background may have left Ctrl-C without effect.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            parallel_for(work, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ended) == [0, 1]
    assert torch.get_num_threads() == 2
    parallel_for(ended.append, 2)
    assert sorted(ended[2:]) == [0, 1]


def forked() -> int:
    """What a forked process, which has none of these threads, computes with its own."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    done = list[int]()
    parallel_for(done.append, 2)
    os._exit(sorted(done) != [0, 1])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    parallel_for(lambda worker: None, 2)
    assert forked() == 0


@given(count=st.integers(1, 60), workers=st.integers(1, 5))
def test_groups_hold_every_tile_once_and_are_as_long_as_one_another(count: int, workers: int) -> None:
    tiles = [slice(0, stop) for stop in range(count, 0, -1)]
    groups = balanced_groups(tiles, workers)
    assert sorted(tile.stop for group in groups for tile in group) == [*range(1, count + 1)]
    assert len(groups) == (1 if workers == 1 else min(count, workers + 1))
    assert all([*group] == sorted(group, key=lambda tile: -tile.stop) for group in groups)
    sizes = [sum(tile.stop for tile in group) for group in groups]
    assert max(sizes) - min(sizes) <= 2 * count


def test_a_group_keeps_its_order_whoever_is_slow() -> None:
    """One worker stays at its first tile: the other does all else that there is, no group has two tiles at work."""
    tiles = [slice(0, stop) for stop in range(12, 0, -1)]
    groups = balanced_groups(tiles, 2)
    done: list[list[slice]] = [[], [], []]
    by: list[int] = []
    busy = [threading.Lock() for _ in done]
    others_are_done = threading.Event()

    def work(worker: int, group: int, tile: slice) -> None:
        assert busy[group].acquire(blocking=False), "two tiles of a group at a time"
        by.append(worker)
        if worker == 1 and by.count(1) == 1:
            # Two groups are left to the other worker, who makes all of their tiles.
            assert others_are_done.wait(60)
        done[group].append(tile)
        busy[group].release()
        if sum(len(found) == len(group) for found, group in zip(done, groups, strict=True)) == 2:
            others_are_done.set()

    parallel_groups(work, groups, 2)
    assert done == groups
    assert by.count(0) > by.count(1) - 4


def test_a_thread_that_dies_before_it_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory runs out: the threads are there, and take nothing."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.05)
    pool.cache_clear()
    both, leave = threading.Barrier(3, timeout=60), threading.Event()
    busy = pool(2)

    def block() -> None:
        both.wait()
        leave.wait(60)

    blocked = [busy.submit(block) for _ in range(2)]
    both.wait()
    done: list[int] = []
    try:
        parallel_for(done.append, 2)
        assert done == [0, 1]
        assert pool(2) is not busy
    finally:
        leave.set()
        for call in blocked:
            call.future.result(60)
    parallel_for(done.append, 2)
    assert sorted(done) == [0, 0, 1, 1]


def test_where_no_thread_comes_to_life_the_caller_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve() -> None:
        raise MemoryError

    monkeypatch.setattr(parallel, "PATIENCE", 0.05)
    monkeypatch.setattr(parallel, "alone", starve)
    pool.cache_clear()
    done: list[int] = []
    parallel_for(done.append, 2)
    assert done == [0, 1]
    monkeypatch.undo()
    pool.cache_clear()
    parallel_for(done.append, 2)
    assert sorted(done) == [0, 0, 1, 1]


@pytest.mark.timeout(60)
def test_a_thread_that_dies_in_the_midst_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory runs out: it can not even tell."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.05)

    def mute(*_: object) -> None:
        raise MemoryError

    def work(worker: int) -> None:
        if worker == 1:
            raise ValueError

    pool.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(parallel.Future, "set_exception", mute)
        with pytest.raises(MemoryError, match="has died"):
            parallel_for(work, 2)
    done: list[int] = []
    parallel_for(done.append, 2)
    assert sorted(done) == [0, 1]


def test_threads_leave_with_the_last_who_knows_them() -> None:
    some = Threads(3)
    some.submit(lambda: None).future.result(60)
    # Each holds what it takes from, and nobody else does. Other threads of this process come and go.
    tasks = ref(some.tasks)
    del some
    wait_for(lambda: tasks() is None, seconds=60)
