"""A signal that the main thread does not hear is answered in its place; one that it hears is not."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from extrapo.run import unheard
from extrapo.run.unheard import answered

READ = ctypes.CDLL(None).read


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(unheard, "PATIENCE", 0.3)
    monkeypatch.setattr(unheard, "LOOK", 0.02)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    # What waits in a library goes on waiting.
    signal.siginterrupt(signal.SIGINT, False)
    yield
    signal.signal(signal.SIGINT, before)


def send(signals: int, then: int) -> None:
    """Signals from another thread, some time between them, and a byte behind them."""

    def sender() -> None:
        for _ in range(signals):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.8)
        os.write(then, b".")

    threading.Thread(target=sender).start()


@pytest.mark.parametrize(("signals", "needed", "ends"), [(1, 1, 1), (1, 2, 0), (2, 2, 1), (2, 1, 2)])
def test_signals_that_are_not_heard_are_answered(signals: int, needed: int, ends: int) -> None:
    ended: list[bool] = []
    reads, writes = os.pipe()
    with closing(os.fdopen(reads)), closing(os.fdopen(writes, "w")):
        send(signals, writes)
        with pytest.raises(KeyboardInterrupt), answered(lambda: needed, lambda: ended.append(True)):
            READ(reads, ctypes.create_string_buffer(1), 1)
    assert len(ended) == ends


def test_a_signal_that_is_heard_is_not_answered_again() -> None:
    reads, writes = os.pipe()
    with closing(os.fdopen(reads)), closing(os.fdopen(writes, "w")), answered(lambda: 1, pytest.fail):
        send(1, writes)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
        assert os.read(reads, 1) == b"."


def test_what_listened_before_listens_again() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with closing(os.fdopen(reads)), closing(os.fdopen(writes, "w")):
        signal.set_wakeup_fd(writes)
        with answered(lambda: 1, pytest.fail):
            pass
        assert signal.set_wakeup_fd(-1) == writes


def test_another_thread_is_left_alone() -> None:
    found: list[int] = []

    def other() -> None:
        with answered(lambda: 1, pytest.fail):
            found.append(1)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [1]
    assert cast(int, signal.set_wakeup_fd(-1)) == -1
