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
    said = capsys.readouterr()
    if asked:
        assert json.loads(said.out) == {"curve": [{"ppl": None, "lengths": [1, 2]}]}
        assert "for people" in said.err
    else:
        assert (said.out, said.err) == ("for people\n", "")
