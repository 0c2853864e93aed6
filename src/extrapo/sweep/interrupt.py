"""Signals that ask a sweep to stop: the first one asks, the second insists; none is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from extrapo.interruption import stops


class Interrupt:
    """What has been asked by signal.

    Python drops an exception that a signal raises while a weak reference or a finalizer runs, so an interruption is
    remembered beside being raised: `check` raises it where it was dropped.
    """

    def __init__(self) -> None:
        self.requested = False
        self._on_first: Callable[[], None] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Hear signals from here on: outside `deferred` they raise KeyboardInterrupt."""
        before = {number: signal.signal(number, self._handle) for number in stops()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self, on_first: Callable[[], None]) -> Iterator[None]:
        """Here the first signal only sets `requested` and calls `on_first`; the second raises KeyboardInterrupt."""
        self._on_first = on_first
        try:
            yield
        finally:
            self._on_first = None

    def check(self) -> None:
        """Raise KeyboardInterrupt where one was asked for."""
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        requested_before, self.requested = self.requested, True
        if requested_before or self._on_first is None:
            raise KeyboardInterrupt
        self._on_first()
