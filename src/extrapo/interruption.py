"""What asks a command to stop; and a Ctrl-C that Python drops is asked for again.

An exception that a signal raises while a weak reference or a finalizer runs ends there: Python prints it with its
traceback, and goes on as if nobody had asked.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread
from types import FrameType
from typing import Any

#: Seconds until it is asked again: what dropped it is over by then.
SOON = 0.05


def stops() -> list[signal.Signals]:
    """The signals that ask to stop: Ctrl-C, that of a scheduler, that of a terminal which is closed.

    The last one is left out where it is ignored: `nohup` has a command go on.
    """
    hung_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


@contextmanager
def ignored(numbers: Sequence[int]) -> Iterator[None]:
    """What starts in the block ignores these signals: in a terminal they go to every process, and one answers.

    Nobody can change that but the main thread: in another one the block is as it was.
    """
    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    if current_thread() is main_thread():
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undropped() -> Iterator[None]:
    """While the block runs in the main thread, a KeyboardInterrupt that was dropped there is raised soon after."""
    before = sys.unraisablehook

    def heard(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            teller = Timer(SOON, ask_again)
            teller.daemon = True
            teller.start()
        else:
            before(dropped)

    sys.unraisablehook = heard
    try:
        yield
    finally:
        sys.unraisablehook = before


def ask_again() -> None:
    """Send the main thread the signal of Ctrl-C, or the one that means the same where that is ignored."""
    number = signal.SIGTERM if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT
    identifier = main_thread().ident
    if identifier is not None:
        signal.pthread_kill(identifier, number)
