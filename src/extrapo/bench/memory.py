"""Peak memory of one run, in a child process: what an earlier contender left behind is not counted."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import forkserver

import torch

from extrapo.bench.contenders import KINDS, Case, served
from extrapo.children import inheriting


def peak_bytes(case: Case, kind: str, threads: int) -> int:
    """How far memory rises in the first run of a case, from where it stood once the inputs, or the model, were there.

    Resident memory of the process on a CPU, allocated memory on a GPU.
    """
    torch.set_num_threads(threads)
    make = KINDS[kind]
    # The libraries load their parts on a short text first, and loops are compiled.
    path = served(case)
    make(replace(case, length=16, impl=case.impl if path == "-" else path))()
    run = make(case)
    if case.device == "cpu":
        before = resident()
        run()
        return max(0, highest() - before)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - held


def resident() -> int:
    """Bytes of this process in memory now; its peak where the system does not say."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return highest()


def highest() -> int:
    """The most bytes of this process that ever were in memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def end_with_parent() -> None:
    """Let this process end when the one that it measures for is gone, killed as well: it would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Children:
    """Measures peak memory in child processes, two at a time, each of which begins with the libraries loaded."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["extrapo.bench.memory"])
        with inheriting():
            forkserver.ensure_running()

    def peaks(self, cases: Sequence[Case], kind: str) -> list[int | None]:
        """`peak_bytes` of each case; None where its child died, of want of memory as a rule."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda case: self.peak(case, kind), cases))

    def peak(self, case: Case, kind: str) -> int | None:
        """`peak_bytes` of one case."""
        # A pool for each: where a child dies, no other one's is lost.
        with ProcessPoolExecutor(1, mp_context=self.context, initializer=end_with_parent) as pool:
            try:
                return pool.submit(peak_bytes, case, kind, torch.get_num_threads()).result()
            except (RuntimeError, OSError):
                return None
