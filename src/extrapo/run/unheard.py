"""Signals that Python does not hear, because the main thread waits within a library for another process.

Python's own handlers run between two steps of the interpreter. A rank that waits for one that never comes takes none,
and would have to be killed, with its run RUNNING for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from extrapo.interruption import stops

#: Seconds that the main thread has to hear a signal, and between two looks at it.
PATIENCE, LOOK = 5.0, 0.1


@contextmanager
def answered(needed: Callable[[], int], end: Callable[[], None]) -> Iterator[None]:
    """While the block runs in the main thread, answer a signal that asks to stop where that does not hear it.

    Args:
        needed: how many signals it takes to end at once; asked when one has come.
        end: called in another thread, when so many were not heard for `PATIENCE` seconds; does not return.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    # The system's own handler writes the number of every signal there, at once.
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reads, needed, end), name="unheard", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writes)


def _listen(reads: int, needed: Callable[[], int], end: Callable[[], None]) -> None:
    came, where = 0, (0, 0)
    with open(reads, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] not in stops():
                continue
            now = _position()
            came = came + 1 if now == where else 1
            where, until = now, time.monotonic() + PATIENCE
            while _position() == where and time.monotonic() < until:
                time.sleep(LOOK)
            if _position() == where and came >= needed():
                end()


def _position() -> tuple[int, int]:
    """Where the main thread is: the same for as long as it is within one call of a library."""
    identifier = threading.main_thread().ident
    frame = sys._current_frames().get(identifier) if identifier is not None else None
    return (id(frame), frame.f_lasti) if frame is not None else (0, 0)
