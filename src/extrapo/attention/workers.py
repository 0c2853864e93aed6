"""Workers: the tiles of one attention shared out among threads, each of which computes alone.

A tile's operations are short. Spread over all cores one by one, they wait for one another at every step; a thread that
owns its tiles from first to last never waits. PyTorch lets other Python threads run while it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch


def worker_count(device: torch.device, tiles: int) -> int:
    """One for each of PyTorch's threads on a CPU, none of them idle; one on any other device."""
    return max(1, min(torch.get_num_threads(), tiles)) if device.type == "cpu" else 1


def share(work: Callable[[int], None], workers: int) -> None:
    """Call work(0), ..., work(workers - 1), each in a thread of its own, and wait for all; the first error is raised.

    Gradients are recorded in none of them unless `work` says so.
    """
    if workers == 1:
        with torch.no_grad():
            work(0)
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1)) as pool:
            list(pool.map(partial(_without_gradients, work), range(workers)))
    finally:
        # The number is kept per thread, but new threads start from what was set last.
        torch.set_num_threads(threads)


def _without_gradients(work: Callable[[int], None], worker: int) -> None:
    with torch.no_grad():
        work(worker)
