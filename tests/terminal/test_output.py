"""What a command writes for people and what it writes for programs do not mix."""

import json
import math

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
