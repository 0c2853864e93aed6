"""The further ranks of a training on one machine: each runs the same command, and the first watches and ends them.

Lightning would start them as well. It kills the first rank where another one has died, and what that was recording
stays RUNNING; it leaves them alone where the first one was killed; and Ctrl-C in a terminal, which goes to every
process there, ends them while they still load. Here the first rank answers for all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import lightning as L
import torch

from extrapo.errors import MachineError
from extrapo.interruption import ignored, stops

#: In the environment of a further rank: the process that has started it.
FIRST = "EXTRAPO_FIRST_RANK"
#: Seconds between two looks at the others, and that the first rank has to see by itself that one of them is gone.
EVERY, GRACE = 0.5, 5.0
#: In the environment: where the processes of a training meet.
MEETING = ("MASTER_ADDR", "MASTER_PORT")
#: What gloo says, in a plain RuntimeError, when the other end of a connection is gone.
LOST = ("gloo", "Connection closed by peer", "Connection reset by peer")

#: Those that this process has started. They run its script to the end, so its next training has them as well.
_started: list[subprocess.Popen[bytes]] = []


class RankLost(MachineError):
    """Another process of the training is gone."""


@contextmanager
def further_ranks(trainer: L.Trainer, stuck: Callable[[str], None]) -> Iterator[None]:
    """The further ranks of a training in the block, where they are this process's to start.

    Args:
        trainer: of the training.
        stuck: called in another thread with a line, when one of them is gone and the block goes on as if it waited for
            that one; does not return.

    Raises:
        RankLost: one of them is gone.
    """
    strategy = trainer.strategy
    environment = getattr(strategy, "cluster_environment", None)
    if strategy.launcher is not None and environment is not None and not environment.creates_processes_externally:
        if trainer.num_nodes == 1:
            # They meet here, whatever an earlier launcher has left.
            for name in MEETING:
                os.environ.pop(name, None)
        # By these Lightning takes them as started.
        os.environ.update(
            MASTER_ADDR=environment.main_address,
            MASTER_PORT=str(environment.main_port),
            NODE_RANK=str(environment.node_rank()),
            LOCAL_RANK="0",
            WORLD_SIZE=str(trainer.world_size),
        )
        start(trainer.num_devices)
    try:
        with watched(_started, stuck):
            yield
    except BaseException:
        if _started:
            # They are ended: the next training starts others.
            _started.clear()
            os.environ.pop("LOCAL_RANK", None)
        raise


def start(count: int) -> None:
    """Start this program again, as so many ranks less the first."""
    for rank in range(1, count):
        more = {"LOCAL_RANK": str(rank), FIRST: str(os.getpid())}
        with ignored(stops()):
            _started.append(subprocess.Popen(again(), env={**os.environ, **more}))


def again() -> Sequence[str]:
    """The command that starts this program."""
    spec = sys.modules["__main__"].__spec__
    how = [os.path.abspath(sys.argv[0])] if spec is None else ["-m", spec.name]
    return [sys.executable, *how, *sys.argv[1:]]


@contextmanager
def watched(others: Sequence[subprocess.Popen[bytes]], stuck: Callable[[str], None]) -> Iterator[None]:
    """Watch other ranks while the block runs, and end them when it fails.

    Args:
        others: the ranks behind the first, in their order.
        stuck: see `further_ranks`.

    Raises:
        RankLost: the block has failed because one of them is gone, or one that others have started.
    """
    is_over = threading.Event()
    if others:
        threading.Thread(target=_watch, args=(others, is_over, stuck), name="ranks", daemon=True).start()
    try:
        yield
    except BaseException as fault:
        if is_lost(fault) and FIRST in os.environ:
            os._exit(1)  # the first rank says what has happened
        lost = gone(others, GRACE) if is_lost(fault) else None
        for process in others:
            process.kill()
        if is_lost(fault):
            raise RankLost(lost or "another process of this training is gone, or is no longer reached") from fault
        raise
    finally:
        is_over.set()


def is_lost(fault: BaseException) -> bool:
    """Whether a failure says that another process does not answer any more."""
    known = isinstance(fault, torch.distributed.DistError) if torch.distributed.is_available() else False
    return known or (isinstance(fault, RuntimeError) and any(sign in str(fault) for sign in LOST))


def gone(others: Sequence[subprocess.Popen[bytes]], patience: float) -> str | None:
    """Which of the others has failed, as a line; None where none has when patience is over."""
    until = time.monotonic() + patience
    while True:
        for number, process in enumerate(others, start=2):
            code = process.poll()
            if code:
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return f"process {number} of {len(others) + 1} of this training {how}"
        if time.monotonic() >= until:
            return None
        time.sleep(EVERY / 10)


def _watch(others: Sequence[subprocess.Popen[bytes]], is_over: threading.Event, stuck: Callable[[str], None]) -> None:
    while not is_over.wait(EVERY):
        line = gone(others, 0)
        if line is not None:
            if not is_over.wait(GRACE):
                # A GPU waits for minutes for one that does not come.
                stuck(line)
            return


def follow() -> None:
    """In a further rank: end when the first one does, however that ends. Elsewhere nothing."""
    first = os.environ.get(FIRST, "")
    if first.isdecimal():
        threading.Thread(target=_follow, args=(int(first),), name="first rank", daemon=True).start()


def _follow(first: int) -> None:
    while os.getppid() == first:
        time.sleep(EVERY)
    os._exit(1)
