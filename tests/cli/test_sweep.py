"""extrapo sweep: mistakes in its file or in its flags are one line, exit code 2, nothing written; what a task runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeping import TINY

from extrapo.cli import app, run
from extrapo.cli.mistakes import flags
from extrapo.cli.sweep import task_command
from extrapo.location import Location
from extrapo.sweep.command import Machine


@pytest.mark.parametrize(
    ("changes", "flags", "cause"),
    [
        ({"spcae": {}}, "", "did you mean 'space'"),
        ({"space": {"encoding": ["cabel"]}}, "", "unknown encoding 'cabel'; did you mean 'cable'"),
        ({"space": {"encoding": ["cable"], "kernel": ["lig"]}}, "", "unknown kernel 'lig'"),
        ({"space": {"encoding": ["rope", "cable"], "kernel": ["log"]}}, "", "no kernel to choose; leave"),
        ({"space": {"encoding": ["alibi"], "encoding_options.slope": [1]}}, "", "has no option 'slope'"),
        ({"space": {"encoding": ["rope+window:3", "nope:1"]}}, "", "encodings per layer stand in quotes"),
        ({"space": {"heads": [3]}}, "", "3 heads do not divide"),
        ({"space": {"strategy": ["auto", "dddp"]}}, "", "unknown strategy 'dddp'; did you mean 'ddp'"),
        ({"space": {"protocol": ["disjiont"]}}, "", "unknown protocol 'disjiont'"),
        ({"space": {"layers": ["six"]}}, "", "layers: must be a valid integer"),
        ({"objective": "pppl@16T"}, "", "did you mean 'ppl@16T'"),
        ({"mode": "search", "trials": 2, "sampler": "tpee"}, "", "unknown sampler 'tpee'; did you mean 'tpe'"),
        ({"mode": "search", "trials": 2, "sampler": {"name": "tpe", "n": 3}}, "", "unexpected keyword argument 'n'"),
        ({"mode": "search", "trials": 2, "pruner": "meddian"}, "", "did you mean 'median'"),
        ({"space": {"seed": []}}, "", "an empty grid"),
        ({"space": {"seed": [0, 1, 0]}}, "", "space.seed: 0 is listed twice"),
        ({"space": {"seed": {"frm": 0, "to": 3}}}, "", "unknown key of a range 'frm'; did you mean 'from'"),
        ({"name": "a b"}, "", "name: letters, digits, '.', '_' and '-' make a name, not 'a b'"),
        ({"objective": None}, "", "objective"),
        ({"space": {"seed": {"from": 0, "to": 999_999}}}, "", "has 1,000,000 cells: give --yes if that is meant"),
        ({"fixed": {"data": "text:nowhere"}}, "", "nowhere"),
        ({"space": {"seq_len": [32, 1_000_000]}}, "", "tokens, too few for the length 1,000,000: ask for shorter"),
        ({"fixed": {"lengths": [32, 1_000_000]}}, "", "tokens, too few for the length 1,000,000: ask for shorter"),
        ({}, "--storage mysql://x", "sqlite:///FILE or postgresql+psycopg://"),
        (
            {},
            "--storage postgresql+psycopg://me:secret@127.0.0.1:9/x",
            "cannot open the storage postgresql+psycopg://me:***@",
        ),
        ({}, "--storage sqlite:///nowhere.d/../broken.db", "cannot open the storage sqlite"),
        ({}, "--workers 0", "--workers must be at least 1"),
        ({}, "--workers 2 --gpus-per-trial 100", "2 workers with 100 GPUs each need 200"),
        ({}, "--slurm", "a job array needs a storage that several machines can share: --storage"),
        ({}, "--sbatch time=1", "--sbatch goes with --slurm"),
        ({}, "--slurm --storage postgresql://x/y --sbatch gpu", "--sbatch gpu: KEY=VALUE is expected"),
        ({}, "--summary", "no sweep in"),
        ({}, "--summary --dry-run", "give one"),
        ({}, "--rerun 3", "no sweep in"),
        ({}, "--workres 3", "Did you mean --workers"),
    ],
)
def test_one_line(
    changes: dict[str, Any],
    flags: str,
    cause: str,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "postgresql" in flags:
        pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'extrapo[postgres]'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.db").write_text("no database, for certain" * 100)
    fixed = {**TINY, "data": f"text:{text}", **changes.pop("fixed", {})}
    plan: dict[str, Any] = {"name": "mine", "space": {"seed": [0]}, "objective": "ppl@1T", **changes}
    plan["fixed"] = {key: value for key, value in fixed.items() if key not in plan["space"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    assert run(["sweep", "mine.yaml", *flags.split()]) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith("extrapo: error: "), captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert cause in captured.err
    assert "secret" not in captured.err
    assert not (tmp_path / "runs" / "sweeps.db").exists()


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "missing.yaml"]) == 2
    assert "missing.yaml: No such file" in capsys.readouterr().err


def test_a_task_of_a_job_array_is_the_same_sweep_with_one_slot(tmp_path: Path) -> None:
    machine = Machine(Location(tmp_path / "runs"), "postgresql+psycopg://me@db/sweeps", workers=8, gpus_per_trial=2)
    command = task_command(tmp_path / "mine.yaml", machine)
    assert command[:4] == [sys.executable, "-m", "extrapo", "sweep"]
    assert command[command.index("--workers") + 1] == "1"
    known = {name for names in flags(app, ["sweep"]).values() for name in names}
    assert {part for part in command if part.startswith("--")} <= known
