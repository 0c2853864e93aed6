"""Starts the process of a trial, forked from one that has imported all that a worker needs.

The supervisor reads this file and not the worker's, which loads Lightning: that is loaded in the process to fork from.
"""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from extrapo.children import inheriting
from extrapo.interruption import ignored
from extrapo.sweep.task import Task

#: What a forked worker needs, loaded once before the first.
PRELOAD = ["extrapo.sweep.worker", "extrapo.tracking.preload"]


def fork_context() -> ForkServerContext:
    """Processes forked from one that has only imported things: they start in milliseconds, and share nothing else.

    It starts to import at once, beside whatever comes next here. Nothing in it touches CUDA, which would break its
    forks: what asks for devices on import asks the driver's NVML instead.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    # Only the supervisor answers Ctrl-C, and the end of the terminal.
    with inheriting(PYTORCH_NVML_BASED_CUDA_CHECK="1", OMP_NUM_THREADS="1"), ignored((signal.SIGINT, signal.SIGHUP)):
        forkserver.ensure_running()
    return context


def start(task: Task, context: ForkServerContext) -> tuple[ForkServerProcess, Connection]:
    """A new process that works on a trial, and the connection on which it tells how far it is."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, theirs), name=f"trial {task.number}")
    process.start()
    theirs.close()
    return process, ours


def _work(task: Task, connection: Connection) -> None:
    from extrapo.sweep.worker import worker_main

    worker_main(task, connection)
