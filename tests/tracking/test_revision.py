"""The commit is that of a checkout which tracks the package, and of no other."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import extrapo.tracking.revision as revision


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_seen_from(path):
    code = f"import runpy; print(runpy.run_path({str(path)!r})['commit']())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_a_tracked_copy_has_the_commit_and_an_untracked_one_none(tmp_path):
    copy = tmp_path / "revision.py"
    shutil.copy(Path(revision.__file__), copy)
    assert commit_seen_from(copy) == "None"
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    assert commit_seen_from(copy) == "None"
    git(tmp_path, "add", "revision.py")
    git(tmp_path, "commit", "-m", "second")
    assert commit_seen_from(copy) == git(tmp_path, "rev-parse", "HEAD")
