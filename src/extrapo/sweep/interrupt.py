"""Ctrl-C and SIGTERM while a sweep runs: the first one asks, the second insists; none is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """What has been asked by signal.

    Python drops an exception that a signal raises while a weak reference or a finalizer runs, so an interruption is
    remembered beside being raised: `check` raises it where it was dropped.
    """

    def __init__(self) -> None:
        self.asked = False
        self._noted: Callable[[], None] | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear signals from here on: outside `noted` they raise KeyboardInterrupt."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def noted(self, told: Callable[[], None]) -> Iterator[None]:
        """Here the first signal only sets `asked` and calls `told`; the second raises KeyboardInterrupt."""
        self._noted = told
        try:
            yield
        finally:
            self._noted = None

    def check(self) -> None:
        """Raise KeyboardInterrupt where one was asked for."""
        if self.asked:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self._noted is None:
            raise KeyboardInterrupt
        self._noted()
