"""An encoding, a kernel, a back end and a protocol inside the package: one file and one line each, see docs/tasks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import extrapo
from documents import example


def add_line(file: Path, after: str, line: str) -> None:
    text = file.read_text()
    assert text.count(after) == 1, f"{after!r} in {file.name}"
    file.write_text(text.replace(after, f"{after}{line}"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the five files of docs/tasks in their places, and the line that each needs."""
    copy = tmp_path / "extrapo"
    shutil.copytree(Path(extrapo.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "encodings/half_alibi.py").write_text(example("half_alibi.py"))
    add_line(copy / "encodings/__init__.py", "    grape_rotation,\n", "    half_alibi,\n")
    (copy / "kernels/levelling.py").write_text(example("levelling.py"))
    add_line(copy / "kernels/__init__.py", "import MLPLog\n", "from extrapo.kernels.levelling import Levelling\n")
    (copy / "attention/wide.py").write_text(example("wide.py"))
    add_line(copy / "attention/__init__.py", "import Tiles\n", "from extrapo.attention.wide import Wide\n")
    add_line(copy / "attention/__init__.py", "    Decode(),\n", "    Wide(),\n")
    (copy / "evaluation/protocols/three_quarters.py").write_text(example("three_quarters.py"))
    lists = copy / "evaluation/protocols/__init__.py"
    add_line(lists, "import Disjoint\n", "from extrapo.evaluation.protocols.three_quarters import ThreeQuarters\n")
    (copy / "data/sources/fables.py").write_text(example("fables.py"))
    sources = copy / "data/sources/__init__.py"
    add_line(sources, "Source, Split, open_source\n", "from extrapo.data.sources.fables import Fables\n")
    return copy


@pytest.mark.slow
def test_a_run_with_all_five(package: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n***\n".join(f"The number {i} is followed by {i + 1}." for i in range(3000)))
    chosen = "--encoding half-alibi,cable:1 --kernel levelling --protocol three-quarters --layers 2 --impl wide"
    small = "--heads 2 --dim 16 --seq-len 32 --steps 3 --eval-tokens 512 --lengths 32,64 --tokenizer byte"
    done = subprocess.run(
        [sys.executable, "-m", "extrapo", "fit", *chosen.split(), *small.split(), "--data", f"fables:{text}", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["impl"] == "wide"
    assert [(point["protocol"], point["stride"]) for point in result["curve"]] == [
        ("three-quarters", 8),
        ("three-quarters", 16),
    ]
    assert "attention: wide (" in done.stderr
