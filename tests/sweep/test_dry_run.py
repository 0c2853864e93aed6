"""What a sweep will cost, told before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extrapo.cli import run

KERNELS = Path(__file__).parents[2] / "sweeps" / "kernels.yaml"


def test_a_dry_run_prints_cells_and_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["sweep", str(KERNELS), "--dry-run", "--json", "--root", str(tmp_path / "runs")]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert len(document["cells"]) == 2 * 6 * 3
    assert document["cells"][0] == {"encoding": "alibi", "kernel": "linear", "seed": 0}
    assert document["tokens"] == 36 * 500 * 4096
    assert document["seconds"] > 0
    assert "36 trials, 73.7M training tokens" in captured.err
    assert not (tmp_path / "runs").exists()
