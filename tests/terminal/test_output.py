"""What a command writes for people and what it writes for programs do not mix."""

import json
import math
import time

import pytest

from extrapo.terminal import Output


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


def test_what_takes_its_time_is_said_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    with output.alive("looking", every=0.01):
        while not capsys.readouterr().out.startswith("looking: 0 s so far"):
            time.sleep(0.01)
    capsys.readouterr()
    time.sleep(0.05)
    assert not capsys.readouterr().out
