"""The line that is typed next is found from where it is printed, and finds the same runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from extrapo.cli.following import following, program
from extrapo.config import StoreSettings


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of an environment that is not activated, in the folder where somebody works."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "extrapo"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return programs


def test_an_environment_that_is_not_activated(environment: Path) -> None:
    assert program() == [".venv/bin/extrapo"]


def test_from_another_folder(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment / "elsewhere").mkdir()
    monkeypatch.chdir(environment / "elsewhere")
    assert program() == [str(environment / "extrapo")]


def test_an_environment_that_is_activated(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment}:/usr/bin")
    assert program() == ["extrapo"]


def test_another_program_of_the_name_is_found_first(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = environment.parent / "others"
    others.mkdir()
    (others / "extrapo").write_text("#!/bin/sh\n")
    (others / "extrapo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{others}:{environment}")
    assert program() == [".venv/bin/extrapo"]


def test_without_a_script_of_its_own(environment: Path) -> None:
    (environment / "extrapo").unlink()
    assert program() == [".venv/bin/python", "-m", "extrapo"]


def test_the_same_runs(environment: Path) -> None:
    store = StoreSettings(root="my runs", tracking_uri="http://me:secret@host")
    words = shlex.split(following(["ui", "--run", "1b2c"], store))
    assert words[:4] == [".venv/bin/extrapo", "ui", "--run", "1b2c"]
    assert words[-2:] == ["--root", "my runs"]
    assert "secret" not in words[5]
    assert following(["ui"], StoreSettings()) == ".venv/bin/extrapo ui"


def test_from_a_folder_that_was_deleted_since(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a training, say."""
    gone = environment / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert program() == [str(environment / "extrapo")]
    monkeypatch.undo()


@pytest.mark.slow
def test_what_is_printed_runs_in_a_shell(tmp_path: Path) -> None:
    """Of this very environment, not activated."""
    where = {**os.environ, "PATH": "/usr/bin:/bin"}
    line = subprocess.check_output(
        [sys.executable, "-c", "import shlex; from extrapo.cli.following import program; print(shlex.join(program()))"],
        env=where,
        cwd=tmp_path,
        text=True,
    )
    said = subprocess.run(f"{line.strip()} --version", shell=True, env=where, cwd=tmp_path, capture_output=True)
    assert said.returncode == 0
