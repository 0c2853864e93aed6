"""The contract in a project that is not ours: it brings no mark, and what takes long can be left out by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from extrapo.testing import EncodingContract

LONG = {"test_every_backend_equals_the_reference[slow]", "test_float32_gradients[slow]"}
THEIRS = """
from extrapo.testing import EncodingContract


class TestTheirs(EncodingContract):
    encoding = "alibi"
"""


class TestOurs(EncodingContract):
    encoding = "alibi"


def collected(folder: Path, *options: str | Path) -> set[str]:
    """The names of the tests that pytest finds."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.slow
def test_a_project_with_strict_marks_collects_it(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    strict = ["--rootdir", tmp_path, "--strict-markers", "-W", "error::pytest.PytestUnknownMarkWarning"]
    every, quick = collected(tmp_path, *strict), collected(tmp_path, *strict, "-k", "not slow")
    assert len(quick) >= 15
    assert every - quick == LONG


@pytest.mark.slow
def test_here_what_takes_long_has_the_mark() -> None:
    found = collected(Path(__file__).parents[1], "-m", "slow", "-k", "TestOurs", Path(__file__))
    assert found == LONG
