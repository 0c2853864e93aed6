"""Processes that tests start: each dies with the test run, however that ends.

A test run marks its environment, which every process below it inherits, also one that leads a session of its own: the
workers of a sweep, MLflow's servers, ranks. A watchdog in a session of its own waits for the run to end (at its end, by
SIGTERM, by SIGKILL) and kills what still carries the mark. `tests/conftest.py` starts it; tests need do nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

#: In the environment of every process below a test run. Workers of pytest-xdist add to their controller's.
MARK = "EXTRAPO_TEST_RUN"
#: Seconds between two looks at whether the test run is still there.
LOOK = 0.1
#: Linux's prctl: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1
EXTRAPO = (sys.executable, "-m", "extrapo")


def watch() -> Callable[[], None]:
    """Mark this test run and start its watchdog; returns what ends it, and every process that the run has left."""
    mark = "/".join(filter(None, (os.environ.get(MARK), uuid.uuid4().hex)))
    environment = {key: value for key, value in os.environ.items() if key != MARK}
    command = [sys.executable, __file__, str(os.getpid()), mark]
    # No pipe of the test run's: who reads those to their end would wait for the watchdog as well.
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    watchdog = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    os.environ[MARK] = mark
    if sys.platform == "linux":
        # A fork without a program of its own has the environment that the test run started with, which has no mark.
        os.register_at_fork(before=_note_parent, after_in_child=_die_with_parent)

    def end() -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if child.pid != watchdog.pid:
                    child.kill()
        kill_marked(mark)
        watchdog.kill()
        watchdog.wait()

    return end


_parent = 0


def _note_parent() -> None:
    global _parent
    _parent = os.getpid()


def _die_with_parent() -> None:
    """In a fork: the death of its parent is its own, also where that was before it could ask for the signal."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _parent:
        os.kill(os.getpid(), signal.SIGKILL)


#: What a test may start at any time: the record asks git for the commit, Python the system for its name; a disk is
#: mounted.
COMMON = {"git", "uname", "mount", "umount"}
_none = False
_listens = False


def start_none(none: bool) -> None:
    """From now on, whether nobody in this process may start another."""
    global _none, _listens
    _none = none
    if not _listens:
        # There is no way to stop listening.
        sys.addaudithook(_refuse)
        _listens = True


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _none or event not in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"):
        return
    program = str(arguments[0]) if arguments else "a fork"
    if Path(program).name not in COMMON:
        raise AssertionError(f"a test that starts a process ({program}) is to be marked slow")


def marked(mark: str) -> Iterator[psutil.Process]:
    """The living processes that were started by a test run, this one left out."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            theirs = process.environ().get(MARK, "")
            below = theirs == mark or theirs.startswith(f"{mark}/")
            if below and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def kill_marked(mark: str) -> None:
    """Kill the processes that were started by a test run, and those that they start meanwhile."""
    deadline = time.monotonic() + 20
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own, one thread to a rank, its output in pipes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*EXTRAPO, *arguments], env=environment, **pipes, **options)


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    """The exit code of a process, and what it said on stdout and on stderr."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 280) -> Any:
    """What comes to be true, while a process runs."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
    return value


def main(arguments: Sequence[str]) -> None:
    """The watchdog of the test run with this process number and mark."""
    parent, mark = int(arguments[0]), arguments[1]
    while os.getppid() == parent:
        time.sleep(LOOK)
    kill_marked(mark)


if __name__ == "__main__":
    main(sys.argv[1:])
