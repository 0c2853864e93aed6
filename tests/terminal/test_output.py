"""What a command writes for people and what it writes for programs do not mix."""

import json
import math
import os
import time

import pytest
from rich.progress import Progress

from extrapo.terminal import Output
from extrapo.terminal.output import UnreadConsole


@pytest.mark.parametrize("asked", [True, False])
def test_json_is_alone_on_stdout(capsys, asked):
    output = Output(json=asked)
    output.console.print("for people")
    output.document({"curve": [{"ppl": math.inf, "lengths": (1, 2)}]})
    captured = capsys.readouterr()
    if asked:
        assert json.loads(captured.out) == {"curve": [{"ppl": None, "lengths": [1, 2]}]}
        assert "for people" in captured.err
    else:
        assert (captured.out, captured.err) == ("for people\n", "")


def test_nothing_that_is_shown_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b[2J\x9b31m\u202eb\tc"
    output = Output()
    output.say(evil)
    output.table([{"name": evil, "n": "1"}])
    output.console.print(evil)
    shown = capsys.readouterr().out
    assert shown.count(r"a\x1b[2J\x9b31m\u202eb") == 3
    assert not set(shown) & set("\x1b\x9b\x07\u202e")


def test_a_stream_is_as_it_is_for_programs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.stream("a\x1b[2J")
    assert capsys.readouterr().out == "a\x1b[2J"
    output.console = type(output.console)(force_terminal=True)
    output.stream("a\x1b[2J\n")
    assert capsys.readouterr().out == "a\\x1b[2J\n"


def test_a_bar_on_a_terminal_that_is_closed_ends_no_work(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal:
        console = UnreadConsole(file=terminal)
        assert console.is_terminal
        with Progress(console=console) as bar:
            task = bar.add_task("training", total=2)
            os.close(ours)
            bar.advance(task)
            bar.refresh()
        console.print("the curve")
    assert capsys.readouterr().err.count("nobody reads the output any more; the work goes on") == 1


def test_what_takes_its_time_is_said_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    with output.alive("looking", every=0.01):
        while not capsys.readouterr().out.startswith("looking: 0 s so far"):
            time.sleep(0.01)
    capsys.readouterr()
    time.sleep(0.05)
    assert not capsys.readouterr().out
