"""The sweeps that ship: each parses, each of its cells is a model that can be built, and its cost can be told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extrapo.cli import run
from extrapo.sweep.check import check
from extrapo.sweep.spec import read_spec

FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def test_the_five_sweeps_are_there() -> None:
    assert [path.stem for path in FILES] == ["adaptive_terms", "depth", "far_mass", "kernels", "search"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_cell_can_be_built(path: Path) -> None:
    spec = read_spec(path)
    runs = check(spec, many=False)
    assert len({json.dumps(one.model_dump(mode="json"), sort_keys=True) for one in runs}) == len(runs)


def test_a_dry_run_prints_cells_and_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (path,) = (path for path in FILES if path.stem == "kernels")
    assert run(["sweep", str(path), "--dry-run", "--json", "--root", str(tmp_path / "runs")]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert len(document["cells"]) == 2 * 6 * 3
    assert document["cells"][0] == {"encoding": "alibi", "kernel": "linear", "seed": 0}
    assert document["tokens"] == 36 * 500 * 4096
    assert document["seconds"] > 0
    assert "36 trials, 73.7M training tokens" in captured.err
    assert not (tmp_path / "runs").exists()
