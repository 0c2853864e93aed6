"""Sick surroundings: a command comes through, or says in one line what is wrong; no traceback, nothing half done.

The fast ones run with the others; those that train are slow; a full disk at every stage is chaos.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from disks import small_disk
from extrapo.__main__ import main as program
from extrapo.cli import run as command
from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.tracking import runs
from forks import Forks

#: What may be in a path.
NAMES = ("a b", "ünï 数据 ру́", "#", "100%41", "a;b", 'it\'s "so"', "$HOME `x` \\n")


# Fast: in this process.


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("pyarrow", "data prepare parquet:rows.parquet"),
        ("datasets", "data prepare hf:somebody/something"),
        ("transformers", "export checkpoint.ckpt --output exported"),
        ("psycopg", "sweep sweep.yaml --storage postgresql://somebody@127.0.0.1:9/none"),
        ("tiktoken", "data prepare text:words.txt --tokenizer tiktoken:gpt2"),
    ],
)
def test_a_missing_package_is_one_line(
    missing: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.parquet").write_bytes(b"PAR1")
    Path("words.txt").write_text("words " * 999)
    plan = {"name": "s", "space": {"seed": [0]}, "fixed": {"data": "text:words.txt"}, "objective": "ppl@1T"}
    Path("sweep.yaml").write_text(yaml.safe_dump(plan))
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    before = sorted(tmp_path.rglob("*"))
    assert command(line.split()) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("extrapo: error: ")
    assert said.count("\n") == 1, said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("line", ["list kernels", "list kernels --json"])
def test_a_full_disk_behind_stdout(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr(sys, "stdout", full)
        code = command(line.split())
        # What lies in its buffer can never be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 1
    # A table that nobody reads is one thing, a document that a program waits for another.
    assert code == (1 if "--json" in line else 0)


def test_a_folder_that_is_gone_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("extrapo: error: the folder that this was started in is gone")
    assert said.count("\n") == 1


# Slow: trainings.


@dataclass
class Case:
    """What is wrong, and what the command line is to say of it: nothing where it comes through."""

    name: str
    root: str = "runs"
    text: str = "words.txt"
    environment: dict[str, str] = field(default_factory=dict)
    said: str = ""


SICK = [
    *(Case(f"a path with {name!r}", root=f"{name}/runs", text=f"{name}/words.txt") for name in ("/".join(NAMES),)),
    Case("a text with a question mark", text="what?.txt"),
    Case("a root with a question mark", root="what?/runs", said="without one"),
    Case("a root with a line break", root="two\nlines"),
    Case("no home", environment={"HOME": "/proc/none", "XDG_CACHE_HOME": ""}),
    Case("no temporary folder", environment={"TMPDIR": "/proc/none"}),
    Case("no compiler", environment={"PATH": "/proc/none", "CXX": "", "XDG_CACHE_HOME": "cache-of-none"}),
]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


SMALL = (
    *("fit", "--layers", "1", "--heads", "2", "--dim", "16", "--seq-len", "32", "--steps", "2", "--eval-tokens", "256"),
    *("--lengths", "32", "--tokenizer", "byte", "--heatmaps", "1", "--accelerator", "cpu", "--val-tokens", "64"),
    *("--batch-size", "2"),
)


def trained(forks: Forks, root: str, text: Path, environment: dict[str, str]) -> tuple[int, str]:
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(f"{i} is a number, and {i * i} is its square" for i in range(900)))
    return forks.start([*SMALL, "--root", root, "--data", f"text:{text}"], environment).wait()


@pytest.mark.chaos
def test_a_training_comes_through_or_says_why(forks: Forks, tmp_path: Path) -> None:
    wrong = []
    for number, case in enumerate(SICK):
        folder = tmp_path / str(number)
        folder.mkdir()
        root = folder / case.root
        code, said = trained(forks, str(root), folder / case.text, case.environment)
        lines = [line for line in said.splitlines() if line.startswith("extrapo: error:")]
        is_well = code == 0 and [run.status for run in runs(root)] == ["FINISHED"]
        is_told = code in (1, 2) and len(lines) == 1 and case.said in lines[0] and not root.exists()
        if "Traceback" in said or not (is_told if case.said else is_well):
            wrong.append(f"{case.name}: {code}, {said[-600:]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_locale_that_knows_no_letters(tmp_path: Path) -> None:
    """A text may have them; a path or a name that has some cannot be written down, which is said."""
    # Read once, when the interpreter starts.
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}

    def given(root: Path, text: Path) -> subprocess.CompletedProcess[str]:
        text.write_text("\n".join(f"größer als {i}" for i in range(900)), "utf-8")
        words = [sys.executable, "-m", "extrapo", *SMALL, "--root", str(root), "--data", f"text:{text}"]
        return subprocess.run(words, env={**os.environ, **locale}, capture_output=True, errors="replace", check=False)

    done = given(tmp_path / "runs", tmp_path / "words.txt")
    assert done.returncode == 0, done.stderr
    assert [run.status for run in runs(tmp_path / "runs")] == ["FINISHED"]
    refused = given(tmp_path / "Läufe", tmp_path / "wörds.txt")
    assert refused.returncode == 2
    assert "can be written down" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "Läufe").exists()


@pytest.mark.slow
def test_clocks_jump_and_no_process_can_be_started(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    moment, jumps = time.time, itertools.cycle((0.0, 86_400.0, -86_400.0))
    monkeypatch.setattr(time, "time", lambda: moment() + next(jumps))

    def refused(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    monkeypatch.setattr(subprocess, "_fork_exec", refused)
    result = fit(small)
    (run,) = runs(small.root)
    assert run.status == "FINISHED"
    history = run.store.client.get_metric_history(run.run_id, "train/loss")
    # MLflow sorts what it gives by the clock.
    assert sorted(point.step for point in history) == list(range(1, small.steps + 1))
    assert result.tokens_per_second > 0


@pytest.mark.slow
def test_a_training_whose_stdout_is_full_goes_on(forks: Forks, tmp_path: Path, text: Path) -> None:
    process = forks.start([*SMALL, "--root", str(tmp_path / "runs"), "--data", f"text:{text}"], out="/dev/full")
    code, said = process.wait()
    assert code == 0, said
    assert "Traceback" not in said
    assert "nobody reads the output any more" in said
    assert [run.status for run in runs(tmp_path / "runs")] == ["FINISHED"]


def places(disk: Path, elsewhere: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """What lies on the small disk: the root, the cache of tokens, or what is temporary; and where the root is."""
    return {
        "root": (disk / "runs", {}),
        "cache": (elsewhere / "runs", {"EXTRAPO_CACHE": str(disk / "cache")}),
        "temporary": (elsewhere / "runs", {"TMPDIR": str(disk)}),
    }


def on_a_full_disk(forks: Forks, place: str, kilobytes: int, folder: Path) -> None:
    folder.mkdir()
    for disk in small_disk(folder / "disk", 1 + kilobytes // 1024):
        with (disk / "ballast").open("wb") as ballast:
            room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            ballast.write(b"0" * max(0, room - 1024 * kilobytes))
        root, environment = places(disk, folder)[place]
        code, said = trained(forks, str(root), folder / "words.txt", environment)
        assert "Traceback" not in said
        assert code in (0, 1, 2), said
        if code:
            errors = [line for line in said.splitlines() if line.startswith("extrapo: error:")]
            assert len(errors) == 1, said
            assert "space" in errors[0] or "full" in errors[0], errors
        # With room again, the same command comes through.
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        code, said = trained(forks, str(root), folder / "words.txt", environment)
        assert code == 0, said
        assert runs(root)[0].status == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["root", "cache", "temporary"])
def test_a_full_disk(forks: Forks, place: str, tmp_path: Path) -> None:
    on_a_full_disk(forks, place, 8, tmp_path / "full")


@pytest.mark.chaos
@pytest.mark.parametrize("place", ["root", "cache", "temporary"])
@pytest.mark.parametrize("kilobytes", [0, 4, 64, 256, 600, 900, 1200, 1500, 2000, 3000])
def test_a_disk_that_fills_up_at_every_stage(forks: Forks, place: str, kilobytes: int, tmp_path: Path) -> None:
    on_a_full_disk(forks, place, kilobytes, tmp_path / "full")


@pytest.mark.slow
def test_folders_that_cannot_be_written(forks: Forks, tmp_path: Path) -> None:
    for disk in small_disk(tmp_path / "disk", 1):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for number, (place, (root, environment)) in enumerate(places(disk, tmp_path).items()):
            code, said = trained(forks, f"{root}{number}", tmp_path / f"{number}.txt", environment)
            assert "Traceback" not in said
            errors = [line for line in said.splitlines() if line.startswith("extrapo: error:")]
            if place == "temporary":
                assert code == 0, said
            else:
                assert code in (1, 2), said
                assert len(errors) == 1, said
                assert "write" in errors[0] or "read-only" in errors[0].lower(), errors
