"""What a worker is given. The supervisor reads this file and not the worker's, which loads Lightning."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

from extrapo.sweep.slots import Slot

#: What a forked worker needs, loaded once before the first.
PRELOAD = ["extrapo.sweep.worker", "extrapo.tracking.preload"]


@dataclass(frozen=True)
class Task:
    """What a worker is given.

    Args:
        plan: the sweep, as its YAML says it.
        storage: where the study is.
        number: the claimed trial.
        root, tracking_uri: where runs are recorded.
        slot: what it may use.
        log: file that takes what it prints.
        retries: see Queue.
    """

    plan: dict[str, Any]
    storage: str
    number: int
    root: str
    tracking_uri: str | None
    slot: Slot
    log: str
    retries: int

    @property
    def mark(self) -> str:
        """What the processes of this trial carry in their environment."""
        return f"{self.plan['name']} {self.number}"


def forks() -> ForkServerContext:
    """Processes forked from one that has only imported things: they start in milliseconds, and share nothing else.

    It starts to import at once, beside whatever comes next here. Nothing in it touches CUDA, which would break its
    forks: what asks for devices on import asks the driver's NVML instead.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    more = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OMP_NUM_THREADS": "1"}
    before = {key: os.environ.get(key) for key in more}
    os.environ.update(more)
    # Ctrl-C in a terminal goes to every process there; only the supervisor answers it.
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, answer)
    for key, value in before.items():
        if value is None:
            del os.environ[key]
        else:
            os.environ[key] = value
    return context


def start(task: Task, wire: Connection) -> None:
    """The life of a worker process."""
    from extrapo.sweep.worker import live

    live(task, wire)
