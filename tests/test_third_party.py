"""Somebody else's package, installed in a fresh environment: the one that the pages of docs/tasks walk through."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from documents import EXAMPLES, blocks, example, is_a_file

TESTS = """
import torch

import extrapo
from extrapo.testing import KernelContract


class TestComposed(EncodingContract):
    encoding = "rope+half-alibi"


class TestTheirKernelInOurs(EncodingContract):
    encoding = "cable"
    kernel = "levelling"


class TestTheirKernel(KernelContract):
    kernel = "levelling"


def test_half():
    layer = extrapo.encodings.create("half-alibi", heads=4, head_dim=4, dim=16, factor=2.0)
    dense = layer.bias(torch.zeros(1, 5, 16)).dense()
    assert dense[0, 0, 4, 0] == -2.0 and abs(dense[0, 1, 4, 0]) < 1e-6
"""


#: Commands one after another in one process, as the command line would run each: what it prints, a line to a command.
COMMANDS = """
import contextlib, io, json, sys

from extrapo.cli import run

for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run(command)
    assert code == 0, (command, said.getvalue())
    print(json.dumps(json.loads(said.getvalue())))
"""


def run(command: list[str | Path], cwd: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=dict(environment), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_their_package_in_a_fresh_environment(tmp_path: Path) -> None:
    """A new environment that sees this one's libraries, their package installed into it by pip, and nothing else."""
    contract = next(block for block in blocks(EXAMPLES["half_alibi.py"], "python") if not is_a_file(block))
    (pyproject,) = blocks(EXAMPLES["half_alibi.py"], "toml")
    package, checks = tmp_path / "package", tmp_path / "checks"
    package.mkdir()
    checks.mkdir()
    for name in EXAMPLES:
        (package / name).write_text(example(name))
    (package / "pyproject.toml").write_text(pyproject)
    (checks / "test_half_alibi.py").write_text(contract + TESTS)

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    fresh = tmp_path / "fresh"
    # Without a pip of its own, whose older setuptools would hide this one's.
    run([sys.executable, "-m", "venv", "--without-pip", fresh], tmp_path, environment)
    python = fresh / "bin" / "python"
    (site,) = fresh.glob("lib/*/site-packages")
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index"]
    run([*install, "--no-deps", "--no-build-isolation", package], tmp_path, environment)

    text = tmp_path / "text.txt"
    text.write_text("\n***\n".join(f"The number {i} is followed by {i + 1}." for i in range(3000)))
    small = "--layers 1 --heads 2 --dim 16 --seq-len 32 --steps 3 --eval-tokens 512 --lengths 32,64 --tokenizer byte"
    fit = f"fit --encoding half-alibi --data fables:{text.name} {small} --json"
    commands = [
        "list encodings --json",
        fit,
        "evaluate last --protocol three-quarters --eval-tokens 512 --json",
        f"{fit} --impl wide --name wide",
    ]
    said = run([python, "-c", COMMANDS, json.dumps([line.split() for line in commands])], tmp_path, environment)
    listed, fitted, evaluated, wide = map(json.loads, said.splitlines())

    (row,) = [row for row in listed if row["name"] == "half-alibi"]
    assert {"fold", "wide", "tiles", "reference"} <= set(row["impls"])
    assert (row["parameters"], row["year"]) == (0, 2026)
    assert fitted["encoding"] == "half-alibi"
    assert [point["length"] for point in fitted["curve"]] == [32, 64]
    assert [(point["protocol"], point["stride"], point["tokens"]) for point in evaluated["curve"]] == [
        ("three-quarters", 8, 512),
        ("three-quarters", 16, 512),
    ]
    assert wide["impl"] == "wide"

    passed = run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", checks], checks, environment)
    assert "failed" not in passed
    assert int(re.findall(r"(\d+) passed", passed)[0]) > 50
