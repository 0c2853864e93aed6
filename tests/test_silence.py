"""A command that is silent for too long says that it still runs, and nothing else is changed by that."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from io import StringIO

import pytest

from extrapo import silence
from extrapo.silence import LONG, OFTEN, SELDOM, SILENT, Heard, Watch, pause, watched


def streams() -> tuple[Heard, Heard]:
    return Heard(StringIO()), Heard(StringIO())


def said(of: tuple[Heard, Heard]) -> list[str]:
    return of[1].getvalue().splitlines()


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.005)


def test_silence_is_broken_again_and_again_on_stderr_alone() -> None:
    heard = streams()
    watch = Watch("extrapo fit", heard, silent=0.02)
    watch.start()
    until(lambda: len(said(heard)) >= 3)
    watch.end()
    assert all(line == "extrapo fit: 0 s so far ..." for line in said(heard))
    assert heard[0].getvalue() == ""


def test_who_is_heard_is_not_spoken_for() -> None:
    heard = streams()
    watch = Watch("extrapo fit", heard, silent=3600.0)
    watch.start()
    heard[0].write("a line\n")
    watch.end()
    watch._thread.join()
    assert (heard[0].getvalue(), heard[1].getvalue()) == ("a line\n", "")


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_written_is_heard(which: int) -> None:
    heard = streams()
    heard[which].at = 0.0
    print("a line", file=heard[which])
    assert heard[which].at > 0.0
    assert heard[which].getvalue() == "a line\n"
    assert not heard[which].isatty()


def test_a_reader_of_stderr_who_has_left() -> None:
    heard = streams()
    heard[1].stream.close()
    watch = Watch("extrapo fit", heard, silent=0.01)
    watch.start()
    before = heard[1].at
    until(lambda: heard[1].at > before)
    watch.end()
    watch._thread.join()


def test_imports_are_told_apart() -> None:
    assert not silence.loading()
    scope: dict[str, object] = {"loading": silence.loading}
    exec(compile("found = loading()", silence.LOADING + "._bootstrap>", "exec"), scope)
    assert scope["found"] is True


def test_long_work_is_told_of_seldom_where_nobody_watches() -> None:
    assert (pause(0), pause(LONG - 1), pause(LONG)) == (OFTEN, OFTEN, SELDOM)
    assert OFTEN < SILENT <= 5.0
    watch = Watch("extrapo fit", streams())
    assert watch.patience() == SILENT
    watch._began -= LONG + 1
    assert watch.patience() == SELDOM
    watch.streams[1].isatty = lambda: True
    assert watch.patience() == SILENT


def test_only_the_first_rank_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    out = sys.stdout
    watched("extrapo fit")()
    assert sys.stdout is out
