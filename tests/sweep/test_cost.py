"""What a sweep will cost, told before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extrapo.cli import run
from extrapo.config import RunConfig
from extrapo.sweep.cost import estimate, operations

KERNELS = Path(__file__).parents[2] / "sweeps" / "kernels.yaml"


def test_a_dry_run_prints_cells_and_cost(capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path) -> None:
    file = tmp_path / "kernels.yaml"
    # Another text than the default one, for which a tokenizer would be trained first.
    file.write_text(KERNELS.read_text().replace("fixed: {", f"fixed: {{data: 'text:{text}', tokenizer: byte, "))
    assert run(["sweep", str(file), "--dry-run", "--json", "--root", str(tmp_path / "runs")]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert len(document["cells"]) == 2 * 6 * 3
    assert document["cells"][0] == {"encoding": "alibi", "kernel": "linear", "seed": 0}
    assert document["tokens"] == 36 * 500 * 4096
    assert document["seconds"] > 0
    assert "36 trials, 73.7M training tokens" in captured.err
    assert not (tmp_path / "runs").exists()


def test_the_operations_of_a_run_counted_by_hand() -> None:
    tiny = RunConfig(
        layers=2,
        heads=2,
        dim=8,
        vocab_size=300,
        seq_len=4,
        batch_size=3,
        steps=5,
        val_every=2,
        val_tokens=12,
        lengths=[4, 8],
        eval_tokens=16,
    )
    weights = 12 * 2 * 8 * 8 + 300 * 8
    of_token = {length: 2 * weights + 2 * 2 * 8 * length for length in (4, 8)}
    tokens, count = operations(tiny)
    assert tokens == 3 * 4 * 5
    assert count == 60 * 3 * of_token[4] + 3 * 12 * of_token[4] + 16 * (of_token[4] + of_token[8])


def test_an_estimate_scales_with_the_trials() -> None:
    run = RunConfig(layers=1, seq_len=32, steps=2)
    one, many = estimate([run], 1, rate=1e9), estimate([run, run], 6, rate=1e9)
    assert many.tokens == 6 * one.tokens
    assert many.seconds == pytest.approx(6 * one.seconds)
    assert "6 trials" in many.line(2)
    assert "in 2 slots" in many.line(2)
