"""The command of a run makes the same configuration again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from extrapo.cli import run
from extrapo.config import RunConfig
from extrapo.report.settings import command_lines, differing, shared, told

CASES: list[dict[str, Any]] = [
    {},
    {"encoding": "rope+k-cable", "layers": 4, "seed": 3},
    {"dim": 64, "heads": 2, "batch_size": 8, "lengths": (32, 64), "seq_len": 64},
    {"encoding": "adaptive", "encoding_options": {"alpha_mode": "const"}, "tied": False},
    {"swap_to": "nope", "steps": 50, "swap_step": 20},
    {"data": "text:it's a file.md", "tokenizer": "byte", "lr": 0.001, "pack": True},
]


@pytest.mark.parametrize("case", CASES)
def test_the_command_makes_the_run_again(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig(**case).resolved()
    (line,) = command_lines([config.model_dump(mode="json")])
    words = shlex.split(line)
    assert words[:2] == ["extrapo", "fit"]
    assert run([*words[1:], "--print-config"]) == 0
    again = RunConfig.model_validate(yaml.safe_load(capsys.readouterr().out)).resolved()
    # What follows from other settings is left out, of the name that says what was asked for as well.
    assert again.model_copy(update={"name": config.name}) == config


def test_derived_values_are_left_out_and_places_too() -> None:
    config = RunConfig(layers=3, root="elsewhere").resolved().model_dump(mode="json")
    assert command_lines([config]) == ["extrapo fit --layers 3"]


def test_runs_that_differ_in_their_seed_alone_have_that_in_their_lines() -> None:
    runs = [RunConfig(encoding=name, dim=96, seed=seed).resolved() for name in ("rope", "nope") for seed in (0, 1, 2)]
    lines = command_lines([run.model_dump(mode="json") for run in runs])
    alone = [command_lines([run.model_dump(mode="json")])[0] for run in runs]
    assert lines == alone
    assert [line.partition(" --seed ")[2] for line in lines] == ["", "1", "2"] * 2


def test_what_differs_and_what_is_shared() -> None:
    configs = [{"encoding": name, "layers": 2, "kernel": None, "lr": 1e-3, "name": name} for name in ("rope", "alibi")]
    assert differing(configs) == ["encoding"]
    assert shared(configs) == {"layers": "2", "lr": "0.001"}
    assert told({"slope": 2, "window": {"window": 4}}) == "slope 2, window window 4"
