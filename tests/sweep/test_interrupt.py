"""Signals of a sweep: the first one asks, the second insists, and one that Python drops is not lost."""

from __future__ import annotations

import os
import signal
import weakref

import pytest

from extrapo.sweep.interrupt import Interrupt


class Thing:
    """Can be weakly referred to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_insists(number: int) -> None:
    interrupt, said = Interrupt(), list[str]()
    before = signal.getsignal(number)
    with interrupt.installed(), interrupt.deferred(lambda: said.append("stopping")):
        os.kill(os.getpid(), number)
        assert said == ["stopping"]
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert said == ["stopping"]


def test_outside_the_deferred_part_it_raises() -> None:
    interrupt = Interrupt()
    with interrupt.installed():
        interrupt.check()
        with interrupt.deferred(lambda: None):
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


# Python says on stderr that it drops the exception.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_drops_is_raised_later() -> None:
    interrupt, thing = Interrupt(), Thing()
    there = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    with interrupt.installed():
        del thing
        assert there() is None
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
