"""Pictures of a run on request, by the command: those that it has something to show for, and a line for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from extrapo.cli import run
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import Result
from extrapo.run.pictures import picture


def test_the_command_draws_what_there_is(finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(Location.of(finished.config).root)]
    path = tmp_path / "four.svg"
    asked = ["show", finished.run_id, "--picture", "sentence", "--text", "abcd", "--output", str(path)]
    assert run([*asked, *root]) == 0
    assert path.read_bytes().startswith(b"<?xml")
    assert run(["show", "alibi", "--picture", "sentence"]) == 2
    assert run([*asked, "--layer", "7", *root]) == 2
    assert "--layer 7: the model has layers 0 to 0" in capsys.readouterr().err


def test_what_is_not_there_is_said(finished: Result) -> None:
    location = Location.of(finished.config)
    with pytest.raises(UserError, match="fewer than two tokens"):
        picture(finished.run_id, "mean-bias", location, text="a")
    with pytest.raises(UserError, match="there is no picture 'portrait'"):
        picture(finished.run_id, "portrait", location)
    assert picture(finished.run_id, "context-gain", location).axes
