"""Parallel: the tiles of one attention shared out among threads, each of which computes alone.

A tile's operations are short. Spread over all cores one by one, they wait for one another at every step; a thread that
owns a tile from first to last never waits. PyTorch lets other Python threads run while it computes. The threads stay
for the next attention: each of them has memory in the libraries below that is dear to set up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache

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


@lru_cache(maxsize=1)
def pool(count: int) -> ThreadPoolExecutor:
    """The threads."""
    return ThreadPoolExecutor(count, "tiles", initializer=alone)


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
        tasks = [pool(workers).submit(_without_gradients, work, worker) for worker in range(workers)]
        try:
            failed = [error for worker, task in enumerate(tasks) if (error := _ended(task, work, worker)) is not None]
        finally:
            # After Ctrl-C too: nobody may write on once the memory is somebody else's.
            wait(task for task in tasks if not task.cancelled())
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


def _ended(task: Future[None], work: Callable[[int], None], worker: int) -> BaseException | None:
    """Wait for a task; the error that it ended with.

    Where memory runs out a thread may die before it begins, and nobody is told: what is not begun after a while is done
    here, and the next attention starts threads anew.
    """
    while True:
        try:
            return task.exception(PATIENCE)
        except TimeoutError:
            if task.cancel():
                pool.cache_clear()
                work(worker)
                return None


def _without_gradients(work: Callable[[int], None], worker: int) -> None:
    with torch.no_grad():
        work(worker)
