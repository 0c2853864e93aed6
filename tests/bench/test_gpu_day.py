"""The script for the day there is a GPU runs: all of its parts, on a CPU, with texts and models of nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_day.py"


@pytest.mark.slow
def test_all_parts_run(tmp_path: Path) -> None:
    out = tmp_path / "day.json"
    command = [sys.executable, str(SCRIPT), "--smoke", "--out", str(out)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert set(found) == {"machine", "parity", "attention", "waits", "training", "run", "seconds"}
    assert '"error"' not in out.read_text()
    for row in found["parity"]:
        assert row["same_to_the_bit"]
        assert max(row["errors"]) <= (1e-4 if row["dtype"] == "torch.float32" else 0.05), row
    assert found["run"]["curve"]
