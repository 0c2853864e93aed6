"""Parallel: the tiles of one attention shared out among threads, each of which computes alone.

A tile's operations are short. Spread over all cores one by one, they wait for one another at every step; a thread that
owns a tile from first to last never waits. PyTorch lets other Python threads run while it computes. The threads stay
for the next attention: each of them has memory in the libraries below that is dear to set up.
"""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import lru_cache, partial
from queue import SimpleQueue
from weakref import ref

import torch

from extrapo.attention.cpu.openmp import release_threads

#: Seconds after which a thread that has not begun is not waited for.
PATIENCE = 2.0


def worker_count(tiles: int) -> int:
    """One for each of PyTorch's threads; 1 where some would be idle."""
    threads = torch.get_num_threads()
    return threads if tiles >= threads else 1


def alone() -> None:
    """What a thread does once before it computes tiles."""
    # Asked first: on its first use of the number a thread takes what any thread has set last, its own setting or not.
    torch.get_num_threads()
    torch.set_num_threads(1)
    # Weights far out underflow; numbers below 1e-38 take a hundred times as long as others, and weigh nothing.
    torch.set_flush_denormal(True)


#: What threads take from: what is to be called, and who is told; None where a thread is to leave.
Tasks = SimpleQueue[tuple[Callable[[], None], Future[None]] | None]


class Call:
    """What a thread is to do.

    Out of memory, a thread may die in the midst of it without a word. Then nobody knows the work any more.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.future: Future[None] = Future()
        self._work = ref(work)

    def is_lost(self) -> bool:
        """Whether it will never end."""
        # In this order: who ends it says so before it lets go of the work.
        return self._work() is None and not self.future.done()

    def wait(self) -> None:
        """Until nobody is at it."""
        while not self.future.done() and not self.is_lost():
            wait([self.future], PATIENCE)


class Threads:
    """Threads that stay until nobody knows them any more.

    Where memory runs out, a thread may never come to life. Those of `threading` are waited for all the same, and the
    long functions that they begin with never end: CPython 3.11 wants memory to leave a block in the 257th instruction.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.tasks: Tasks = SimpleQueue()
        # Fewer, or none, do as well: see `_ended`.
        with suppress(RuntimeError):
            for _ in range(count):
                _thread.start_new_thread(_serve, (self.tasks,))

    def submit(self, work: Callable[[], None]) -> Call:
        """Have a thread call it; nobody else is to know it, see Call."""
        call = Call(work)
        self.tasks.put((work, call.future))
        return call

    def __del__(self) -> None:
        for _ in range(self.count):
            self.tasks.put(None)


def _serve(tasks: Tasks) -> None:
    """What a thread does."""
    with suppress(MemoryError):
        alone()
        while _do_next(tasks):
            pass


def _do_next(tasks: Tasks) -> bool:
    """Wait for what is next, and do it; whether there may be more."""
    if (taken := tasks.get()) is None:
        return False
    work, future = taken
    del taken
    try:
        if future.set_running_or_notify_cancel():
            try:
                work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
    finally:
        # An error keeps what it has come through, and nobody is to know the work any more.
        del work
    return True


@lru_cache(maxsize=1)
def pool(count: int) -> Threads:
    """The threads."""
    return Threads(count)


if hasattr(os, "register_at_fork"):
    # Threads do not live on in a forked process.
    os.register_at_fork(after_in_child=pool.cache_clear)


def parallel_for(work: Callable[[int], None], workers: int) -> None:
    """Call work(0), ..., work(workers - 1), each in a thread of its own, and wait for all; the first error is raised.

    Gradients are recorded in none of them unless `work` says so.
    """
    with torch.no_grad():
        threads = torch.get_num_threads()
        if workers != threads:
            work(0)
            return
        release_threads()
        calls = [pool(workers).submit(partial(_without_gradients, work, worker)) for worker in range(workers)]
        try:
            failed = [error for worker, call in enumerate(calls) if (error := _ended(call, work, worker)) is not None]
        finally:
            # After Ctrl-C too: nobody may write on once the memory is somebody else's.
            for call in calls:
                call.wait()
            # The number is kept per thread, but new threads start from what was set last.
            torch.set_num_threads(threads)
        if failed:
            raise failed[0]


def balanced_groups(tiles: Sequence[slice], workers: int) -> list[list[slice]]:
    """Tiles, the longest first, in groups that take as long as one another.

    One group more than workers: while a tile is left there is a group that nobody works at.
    """
    count = min(len(tiles), workers + 1) if workers > 1 else 1
    return [[tile for n, tile in enumerate(tiles) if n % (2 * count) in (c, 2 * count - 1 - c)] for c in range(count)]


def parallel_groups(work: Callable[[int, int, slice], None], groups: Sequence[Sequence[slice]], workers: int) -> None:
    """Call work(worker, group, tile) for all tiles: those of a group one at a time, in their order, by who is free.

    What the tiles of a group add up is then the same on every run, and no worker waits for a slower one.
    """
    left = [list(reversed(group)) for group in groups]
    resting = set(range(len(groups)))
    lock = threading.Lock()

    def serve(worker: int) -> None:
        group = None
        while True:
            with lock:
                resting.update(() if group is None else (group,))
                waiting = [g for g in sorted(resting) if left[g]]
                if not waiting:
                    return
                group = max(waiting, key=lambda g: len(left[g]))
                resting.remove(group)
                tile = left[group].pop()
            work(worker, group, tile)

    parallel_for(serve, workers)


def _ended(call: Call, work: Callable[[int], None], worker: int) -> BaseException | None:
    """Wait for a call; the error that it ended with.

    Where memory runs out a thread may die before it begins, and nobody is told: what is not begun after a while is done
    here, and the next attention starts threads anew. What one has left half done is an error.
    """
    while True:
        try:
            return call.future.exception(PATIENCE)
        except TimeoutError:
            if call.future.cancel():
                pool.cache_clear()
                work(worker)
                return None
            if call.is_lost():
                pool.cache_clear()
                return MemoryError("a thread that computed attention has died")


def _without_gradients(work: Callable[[int], None], worker: int) -> None:
    with torch.no_grad():
        work(worker)
