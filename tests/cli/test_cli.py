"""The command line in this process: what it prints, and how a mistake ends."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from extrapo.cli import COMMANDS, main, run
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore
from extrapo.tracking.store import quiet


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("fit", "evaluate", "list", "show", "ui"))
    assert run(["fit", "--help"]) == 0
    said = capsys.readouterr().out
    flags = "encoding kernel layers heads dim seq-len steps data seed devices strategy precision config resume json"
    assert all(f"--{flag}" in said for flag in flags.split())


@pytest.mark.slow
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_comes_at_once(command: list[str]) -> None:
    """What takes long is what is loaded: help loads none of it."""
    heavy = {"torch", "numpy", "lightning", "mlflow", "optuna", "matplotlib", "rich.progress", "yaml", "sqlalchemy"}
    code = f"import sys; from extrapo.cli import run; run({[*command, '--help']}); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: extrapo" in done.stdout
    assert not done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("fit --encoding k-cabel", "did you mean 'k-cable'"),
        ("fit --encoding rope+k-cabel", "did you mean 'k-cable'"),
        ("fit --kernel cauchy", "did you mean 'cauchy-log'"),
        ("fit --encoding rope --kernel log", "no kernel to choose"),
        ("fit --heads 3 --dim 64", "3 heads do not divide the width 64"),
        ("fit --encoding rope --heads 2 --dim 30", "must be even, not 15"),
        ("fit --layers 0", "--layers: must be greater than or equal to 1"),
        ("fit --layers six", "--layers: must be a valid integer"),
        ("fit --lengths 0", "--lengths: must be"),
        ("fit --impl flex3", "flex3"),
        ("fit --devices 0", "--devices must be at least 1"),
        ("fit --nodes 2", "--nodes 2: this command is to be started on every machine"),
        ("fit --encoding rope --kernel log", "leave --kernel out"),
        ("fit --batch-size 8 --micro-batch 3", "--micro-batch 3 does not divide"),
        ("fit --swap-step 3", "say which with --swap-to"),
        ("generate missing.ckpt --tokens 0", "--tokens: must be greater than or equal to 1"),
        ("generate missing.ckpt --top-k 0", "--top-k must be at least 1"),
        ("evaluate last --root none", "or say where they are with --root"),
        ("bench --lengths 0", "--lengths: must be greater than or equal to 1"),
        ("bench --lengths 16,x", 'Invalid value for --lengths: unable to convert "x"'),
        ("bench --encodings rope+window:3,nope:1", "each is timed by itself, not in 3 layers: write rope+window"),
        ("bench --encodings rope,k-cabel", "did you mean 'k-cable'"),
        ("fit --layrs 6", "Did you mean --layers"),
        ("fti", 'Did you mean "fit"'),
        ("fit --config missing.yaml", "missing.yaml"),
        ("fit --config broken.yaml", "not valid YAML"),
        ("fit --config list.yaml", "a mapping of settings is expected"),
        ("fit --config stranger.yaml", "did you mean 'layers'"),
        ("fit --data wikitext", "unknown corpus"),
        ("fit --data text:missing", "missing"),
        ("fit --data text:empty.txt", "empty.txt"),
        ("fit --data text:short.txt --tokenizer byte", "tokens"),
        ("fit --data text:latin1.txt", "UTF-8"),
        ("fit --tokenizer bpee", "unknown tokenizer"),
        ("fit --resume abc --layers 3", "leave --layers out"),
        ("fit --resume last", "no runs in"),
        ("fit --devices 3 --batch-size 4", "does not divide among 3"),
        ("fit --precision 8", "--precision: must be"),
        ("evaluate last", "no runs in"),
        ("evaluate missing.ckpt --lengths 8,none", "--lengths: must be a valid integer"),
        ("evaluate missing.ckpt --lengths 64,128 256", "no checkpoint at 'missing.ckpt'"),
        ("evaluate last --eval-tokens -5", "--eval-tokens: must be greater than or equal to 1"),
        ("evaluate missing.ckpt --skip 2", "--skip: must be less than 1"),
        ("evaluate missing.ckpt --impl nope", "unknown impl 'nope'"),
        ("evaluate missing.ckpt --protocol disjiont", "unknown protocol 'disjiont'; did you mean 'disjoint'"),
        ("evaluate missing.ckpt", "no checkpoint at 'missing.ckpt'"),
        ("ui", "no runs in"),
        ("list encoding", "encodings"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: str, cause: str, one_line: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("layers: [1")
    (tmp_path / "list.yaml").write_text("- layers")
    (tmp_path / "stranger.yaml").write_text("layer: 6")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("Too short for a window.\n\nBy far.")
    (tmp_path / "latin1.txt").write_bytes("déjà vu".encode("latin-1"))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(arguments.split()) == 2
    assert cause in one_line()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_no_back_end_of_matplotlib_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is none ends the import of it."""
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["MPLBACKEND"] == "agg"


def test_a_full_disk_says_what_helps(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunStore, "existing", full)
    assert run(["list", "runs"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("No space left on device; free some, or put --root, EXTRAPO_CACHE and TMPDIR on another disk")


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (DeprecationWarning("this\n  goes"), 1, "DeprecationWarning: this goes (PYTHONWARNINGS makes an error of it"),
        (
            ValueError("Failed to convert 'x' for MLFLOW_POOL_SIZE"),
            2,
            "MLFLOW_POOL_SIZE in the environment has no value",
        ),
        (RuntimeError("secret"), 2, "MLFLOW_POOL_SIZE in the environment has no value"),
    ],
)
def test_what_the_environment_asks_of_a_library_is_told_in_a_line(
    fault: Exception, code: int, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*words: object) -> None:
        raise fault from ValueError("'x' is no MLFLOW_POOL_SIZE")

    monkeypatch.setattr(RunStore, "existing", fails)
    monkeypatch.setenv("MLFLOW_POOL_SIZE", "a secret")
    assert run(["list", "runs"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert "secret" not in line


def test_a_fault_that_names_a_variable_which_is_not_set_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object) -> None:
        raise ValueError("MLFLOW_POOL_SIZE")

    monkeypatch.setattr(RunStore, "existing", fails)
    monkeypatch.delenv("MLFLOW_POOL_SIZE", raising=False)
    with pytest.raises(ValueError, match="MLFLOW_POOL_SIZE"):
        run(["list", "runs"])


def test_a_level_of_logging_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "NOPE")
    with pytest.raises(UserError, match="MLFLOW_LOGGING_LEVEL is DEBUG, INFO"):
        quiet()
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "debug")
    quiet()
    assert os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] == "false"


@pytest.mark.slow
def test_a_mistake_in_the_name_of_a_run_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    Recorder.start(RunStore.open(Location(tmp_path)), "known", config={"encoding": "rope"}).finish("FINISHED")
    commands = (
        *(["evaluate", "knwon"], ["generate", "knwon", "--prompt", "a"], ["fit", "--resume", "knwon"]),
        *(["export", "knwon"], ["probe", "knwon"], ["compare", "knwon"], ["report", "knwon"]),
    )
    code = (
        "import json, sys; from extrapo.cli import run; codes = [run(words) for words in json.loads(sys.argv[1])];"
        "print(set(codes), [m for m in ('torch', 'mlflow', 'lightning', 'transformers') if m in sys.modules])"
    )
    words = json.dumps([[*words, "--root", str(tmp_path)] for words in commands])
    said = subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True, check=True)
    assert said.stdout == "{2} []\n"
    assert said.stderr.count("no run 'knwon'") == said.stderr.count("near or recent: known") == len(commands)
