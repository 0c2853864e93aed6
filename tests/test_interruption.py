"""A signal that comes while a weak reference is cleared is obeyed all the same."""

from __future__ import annotations

import signal
import sys
import time
import weakref

import pytest

from extrapo.interruption import stops, undropped
from extrapo.run.record import terminable


class Thing:
    """Of which somebody wants to know when it goes."""


def go(number: int) -> None:
    """A thing goes, and in the midst of that a signal comes; then work."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert reference() is None
    time.sleep(20)
    pytest.fail("nobody heard it")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_python_drops_is_asked_for_again(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    hook = sys.unraisablehook
    try:
        with pytest.raises(KeyboardInterrupt), terminable():
            go(number)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capfd.readouterr().err == ""
    assert sys.unraisablehook is hook


def test_where_ctrl_c_is_ignored_the_other_one_is_asked_for() -> None:
    """As in the background of a shell."""
    before = {n: signal.signal(n, h) for n, h in HANDLERS.items()}
    try:
        with pytest.raises(KeyboardInterrupt), undropped():
            go(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


HANDLERS = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.default_int_handler}


def test_all_else_that_is_dropped_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    def fault(_: object) -> None:
        raise ZeroDivisionError

    with undropped():
        thing = Thing()
        reference = weakref.ref(thing, fault)
        del thing
        assert reference() is None
    assert told == [ZeroDivisionError]


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_terminal_that_is_closed_stops_what_nohup_has_not_started(is_ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        assert (signal.SIGHUP in stops()) is not is_ignored
        assert {signal.SIGINT, signal.SIGTERM} <= set(stops())
    finally:
        signal.signal(signal.SIGHUP, before)
