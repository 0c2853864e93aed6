"""Workers: the tiles of one attention shared out among threads, each of which computes alone.

A tile's operations are short. Spread over all cores one by one, they wait for one another at every step; a thread that
owns its tiles from first to last never waits. PyTorch lets other Python threads run while it computes. The threads stay
for the next attention: each of them has memory in the libraries below that is dear to set up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import torch


def worker_count(device: torch.device, tiles: int) -> int:
    """One for each of PyTorch's threads on a CPU, none of them idle; one on any other device."""
    return max(1, min(torch.get_num_threads(), tiles)) if device.type == "cpu" else 1


@lru_cache(maxsize=1)
def helpers(count: int) -> ThreadPoolExecutor:
    """The threads beside the calling one."""
    return ThreadPoolExecutor(count, "tiles", initializer=partial(torch.set_num_threads, 1))


if hasattr(os, "register_at_fork"):
    # Threads do not live on in a forked process.
    os.register_at_fork(after_in_child=helpers.cache_clear)


def share(work: Callable[[int], None], workers: int) -> None:
    """Call work(0), ..., work(workers - 1), the first here and each other in a thread of its own, and wait for all.

    The first error is raised. Gradients are recorded in none of them unless `work` says so.
    """
    with torch.no_grad():
        if workers == 1:
            work(0)
            return
        threads = torch.get_num_threads()
        others = [helpers(threads - 1).submit(_without_gradients, work, worker) for worker in range(1, workers)]
        try:
            # The number is kept per thread, but new threads start from what was set last.
            torch.set_num_threads(1)
            work(0)
        finally:
            torch.set_num_threads(threads)
            failed = [error for other in others if (error := other.exception()) is not None]
        if failed:
            raise failed[0]


def _without_gradients(work: Callable[[int], None], worker: int) -> None:
    with torch.no_grad():
        work(worker)
