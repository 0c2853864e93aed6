"""Whom a run tells how far it is: anybody who can take a line, or nobody."""

from __future__ import annotations

import pytest
from small_runs import change

from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.run.reporter import Reporter, Silent
from extrapo.terminal import Output


def test_a_silent_run_prints_nothing(small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    fit(change(small, heatmaps=0, lengths=(32,)))
    assert capsys.readouterr().out == ""


def test_a_reporter_of_one_s_own_takes_the_lines(small: RunConfig) -> None:
    class Notebook(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    notebook = Notebook()
    result = fit(change(small, heatmaps=0, lengths=(32,)), notebook)
    told = "\n".join(notebook.lines)
    assert f"run {result.run_id}" in told
    assert f"attention: {result.impl}" in told


def test_the_terminal_is_a_reporter() -> None:
    terminal: Reporter = Output()
    with terminal.curve_progress() as progress:
        assert progress is not None
