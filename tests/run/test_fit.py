"""The main job in one process: what it returns, what it records, and what it refuses."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_runs import change, losses

from extrapo.attention import BACKENDS
from extrapo.config import ResolvedConfig, RunConfig
from extrapo.errors import Interrupted, UserError
from extrapo.evaluation.comparison import TERMS
from extrapo.location import Location
from extrapo.run import callbacks
from extrapo.run.fit import Result, fit
from extrapo.run.resume import resume
from extrapo.terminal import Output
from extrapo.tracking import database, runs
from extrapo.training import LanguageModel

IMPLS = {backend.name for backend in BACKENDS}


def test_result(finished: Result) -> None:
    summary = finished.summary()
    assert summary["encoding"] == "k-cable"
    assert summary["impl"] in IMPLS
    assert (summary["layers"], summary["train_length"], summary["steps"]) == (1, 32, 6)
    assert summary["tokens_per_second"] > 0
    assert [row["length"] for row in summary["curve"]] == [16, 32, 64, 128, 256, 512]
    for row in summary["curve"]:
        assert row["ppl"] == pytest.approx(np.exp(row["nll"]))
        assert (row["tokens"], row["protocol"]) == (1024, "disjoint")
        assert row["window"] == row["stride"] == row["length"]
        assert 1 < row["ppl"] < 300


def test_the_compute_path_is_that_of_the_batches(small: RunConfig, tmp_path: Path) -> None:
    """A single token would be served by what decodes."""
    few = {"steps": 1, "warmup": 0, "val_every": 1, "val_tokens": 256, "eval_tokens": 128, "lengths": [32]}
    result = fit(change(small, encoding="cable", **few, heatmaps=0, root=str(tmp_path / "other")))
    assert result.summary()["impl"] in IMPLS - {"decode"}


def test_record(finished: Result) -> None:
    (run,) = runs(finished.config.root)
    assert run.status == "FINISHED"
    assert run.config["layers"] == 1
    assert run.config["lr"] == finished.config.lr
    assert run.tags["extrapo.encoding"] == "k-cable"
    assert run.tags["mlflow.runColor"].startswith("#")
    assert len(run.tags["extrapo.corpus_sha256"]) == 64
    assert Path(run.tags["extrapo.checkpoint.best"]).name == "best.ckpt"
    assert [row["length"] for row in run.curve] == [16, 32, 64, 128, 256, 512]
    assert all(row["corpus_sha256"] == run.tags["extrapo.corpus_sha256"] for row in run.curve)
    assert all(set(row) >= {*TERMS, "precision", "seed"} for row in run.curve)
    assert all(None not in (row[term] for term in TERMS) for row in run.curve)
    client = run.store.client
    curve = client.get_metric_history(run.run_id, "extrapolation/ppl")
    assert [point.step for point in curve] == [16, 32, 64, 128, 256, 512]
    assert run.metrics["ppl/000512"] == pytest.approx(curve[-1].value, rel=1e-4)
    assert sorted(losses(run)) == list(range(1, 7))
    assert sorted(losses(run, "val/loss")) == [2, 4, 6]
    pictures = {artifact.path for artifact in client.list_artifacts(run.run_id, "images")}
    assert any("bias" in path for path in pictures)
    heatmaps = run.heatmaps()
    assert list(heatmaps) == [0, 6]
    assert heatmaps[6][0].shape[0] == 2
    assert not np.array_equal(heatmaps[0][0], heatmaps[6][0])
    assert finished.picture is not None
    assert finished.picture.stat().st_size > 1000


def test_a_curve_by_position_within_documents_after_a_separator(
    small: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    terms = {"protocol": "position", "by_document": True, "start_token": "separator"}
    result = fit(change(small, encoding="nope", heatmaps=0, lengths=(16, 64), **terms))
    (run,) = runs(small.root)
    for row, point in zip(run.curve, result.points, strict=True):
        assert (row["protocol"], row["scope"], row["start_token"]) == ("position", "document", "separator")
        assert row["documents"] == 1, "the text holds one out"
        assert point.positions[0].nll is not None
        assert sum(one.tokens for one in point.positions) == row["tokens"]
    for name in ("positions.csv", "positions.png", "extrapolation.csv"):
        assert (result.checkpoint.parent / name).is_file()
    Output().curve([point.row() for point in result.points], 32)
    assert "33-64" in capsys.readouterr().out


def test_the_configuration_is_stored_as_it_ran(finished: Result) -> None:
    stored = yaml.safe_load((finished.checkpoint.parent / "config.yaml").read_text())
    assert ResolvedConfig(**stored) == finished.config


def test_a_failure_is_recorded(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, batch: Any, batch_idx: int) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(LanguageModel, "validation_step", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(small)
    assert runs(small.root)[0].status == "FAILED"


def test_learned_says_not_applicable_past_its_table(small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    result = fit(change(small, encoding="learned", heatmaps=1), Output())
    assert [p.nll is None for p in result.points] == [False, False, True, True, True, True]
    assert "not applicable" in (result.points[-1].note or "")
    assert "no biases" in capsys.readouterr().out
    (run,) = runs(small.root)
    assert [row["nll"] is None for row in run.curve] == [False, False, True, True, True, True]


def test_a_scheduler_that_ends_a_first_run_in_its_database_leaves_nothing_half(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ended(path: Path) -> None:
        path.write_bytes(b"half")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(database, "make_tables", ended)
    # As a process has it that nobody has told otherwise: its death would leave what it was at.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(change(small, root=str(tmp_path / "runs")))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [path.name for path in (tmp_path / "runs").iterdir()] in ([], [".mlflow.lock"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_curve_leaves_the_run_killed_and_says_which(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def measure(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(callbacks, "extrapolation_curve", measure)
    # As in a shell; what started these tests may have left them otherwise.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted) as stopped:
            fit(change(small, heatmaps=0))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for signal_number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(signal_number, handler)
    (run,) = runs(small.root)
    assert run.status == "KILLED"
    assert stopped.value.run_id == run.run_id
    monkeypatch.undo()
    assert resume("last", Location.of(small)).points


def test_accumulation_is_the_same_step(small: RunConfig, tmp_path: Path) -> None:
    results = [fit(change(small, micro_batch=micro, heatmaps=0, root=str(tmp_path / str(micro)))) for micro in (4, 1)]
    assert [p.nll for p in results[0].points] == pytest.approx([p.nll for p in results[1].points], rel=1e-4)
    whole, parts = (losses(run) for root in (4, 1) for run in runs(tmp_path / str(root)))
    assert whole.keys() == parts.keys()
    assert all(parts[step] == pytest.approx(whole[step], rel=1e-4) for step in whole), "the mean of all micro-batches"


@pytest.mark.parametrize(
    ("encoding", "precision"),
    [
        ("rope+k-cable", "bf16-mixed"),
        pytest.param("cable", "bf16-true", marks=pytest.mark.slow),
    ],
)
def test_half_precision(small: RunConfig, encoding: str, precision: str) -> None:
    values = {"encoding": encoding, "precision": precision, "steps": 30, "heatmaps": 0, "lengths": (32, 64)}
    half = fit(change(small, **values))
    assert half.impl in IMPLS
    plain = fit(change(small, **{**values, "precision": "32-true"}))
    for one, other in zip(half.points, plain.points, strict=True):
        assert one.nll == pytest.approx(other.nll, abs=0.1 if precision == "bf16-mixed" else 0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoding": "k-cabel"}, "did you mean 'k-cable'"),
        ({"kernel": "gaus"}, "unknown kernel"),
        ({"encoding": "rope", "heads": 2, "dim": 18}, "must be even, not 9"),
        ({"protocol": "disjiont"}, "did you mean 'disjoint'"),
        ({"data": "text:/nowhere"}, "/nowhere"),
        ({"lengths": (10_000_000,)}, "shorter than one window of 10000000"),
        ({"seq_len": 1_000_000, "val_tokens": 4}, "tokens"),
        ({"batch_size": 6, "micro_batch": 4}, "does not divide"),
        ({"accelerator": "gpu"}, "no CUDA device"),
        ({"devices": 0}, "at least 1"),
        ({"strategy": "dpp"}, "unknown strategy 'dpp'; did you mean 'ddp"),
        ({"impl": "fold"}, "impl 'fold' cannot serve here"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(small: RunConfig, values: dict[str, Any], message: str) -> None:
    if values.get("accelerator") == "gpu" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UserError, match=message):
        fit(change(small, **values))
    assert not Path(small.root).exists() or not runs(small.root)
