"""The main job in one process: what it returns, what it records, and that it resumes bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.errors import MachineError, UserError
from extrapo.fitting import Result, fit
from extrapo.fitting.again import curve_again
from extrapo.fitting.checkpoints import AtomicCheckpointIO
from extrapo.terminal import Output
from extrapo.tracking import RecordedRun, runs
from extrapo.training import LanguageModel, load


def change(config: RunConfig, **values: Any) -> RunConfig:
    return RunConfig(**{**config.model_dump(exclude_unset=True), **values})


def losses(run: RecordedRun) -> dict[int, float]:
    history = run.store.client.get_metric_history(run.run_id, "train/loss")
    return {point.step: point.value for point in history}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send this process a real signal in the first micro-batch of an optimiser step."""
    plain = LanguageModel.training_step
    sent: list[int] = []

    def training_step(self: LanguageModel, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == step and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(LanguageModel, "training_step", training_step)


@pytest.fixture
def finished(small: RunConfig) -> Result:
    return fit(small, Output())


def test_result(finished: Result, small: RunConfig) -> None:
    summary = finished.summary()
    assert summary["encoding"] == "k-cable"
    assert summary["impl"] == "tiles"
    assert (summary["layers"], summary["train_length"], summary["steps"]) == (1, 32, 6)
    assert summary["tokens_per_second"] > 0
    assert [row["length"] for row in summary["curve"]] == [16, 32, 64, 128, 256, 512]
    for row in summary["curve"]:
        assert row["ppl"] == pytest.approx(np.exp(row["nll"]))
        assert (row["tokens"], row["protocol"]) == (1024, "disjoint")
        assert row["window"] == row["stride"] == row["length"]
        assert 1 < row["ppl"] < 300


def test_the_compute_path_is_that_of_the_batches(small: RunConfig, tmp_path: Path) -> None:
    """A single token would be served by its row."""
    few = {"steps": 1, "warmup": 0, "val_every": 1, "val_tokens": 256, "eval_tokens": 128, "lengths": [32]}
    result = fit(change(small, encoding="cable", **few, heatmaps=0, root=str(tmp_path / "other")), Output())
    assert result.summary()["impl"] == "fold"


def test_record(finished: Result, small: RunConfig) -> None:
    (run,) = runs(small.root)
    assert run.status == "FINISHED"
    assert run.config["layers"] == 1
    assert run.config["lr"] == finished.config.lr
    assert run.tags["extrapo.encoding"] == "k-cable"
    assert run.tags["mlflow.runColor"].startswith("#")
    assert len(run.tags["extrapo.corpus_sha256"]) == 64
    assert Path(run.tags["extrapo.checkpoint.best"]).name == "best.ckpt"
    assert [row["length"] for row in run.curve] == [16, 32, 64, 128, 256, 512]
    assert all(row["corpus_sha256"] == run.tags["extrapo.corpus_sha256"] for row in run.curve)
    client = run.store.client
    curve = client.get_metric_history(run.run_id, "extrapolation/ppl")
    assert [point.step for point in curve] == [16, 32, 64, 128, 256, 512]
    assert run.metrics["ppl/000512"] == pytest.approx(curve[-1].value)
    assert sorted(losses(run)) == list(range(6))
    assert "val/loss" in run.metrics
    pictures = {artifact.path for artifact in client.list_artifacts(run.run_id, "images")}
    assert any("bias" in path for path in pictures)
    heatmaps = run.heatmaps()
    assert list(heatmaps) == [0, 6]
    assert heatmaps[6][0].shape[0] == 2
    assert not np.array_equal(heatmaps[0][0], heatmaps[6][0])
    assert finished.picture is not None
    assert finished.picture.stat().st_size > 1000


def test_the_heatmap_is_the_bias_of_the_checkpoint(finished: Result, small: RunConfig) -> None:
    (run,) = runs(small.root)
    module = load(finished.checkpoint)
    from extrapo.data import prepare

    sample = prepare(small.data, tokenizer="byte").validation[:32]
    expected = module.gpt.biases(torch.from_numpy(sample.astype(np.int64)).unsqueeze(0))[0][0]
    np.testing.assert_allclose(run.heatmaps()[6][0], expected.numpy(), rtol=2e-3, atol=2e-3)


def test_evaluating_again_gives_the_same_curve(finished: Result, small: RunConfig) -> None:
    points, train_length = curve_again("last", Output(), eval_tokens=1024, root=Path(small.root))
    assert train_length == 32
    assert [p.length for p in points] == [p.length for p in finished.points]
    assert [p.nll for p in points] == pytest.approx([p.nll for p in finished.points], rel=1e-9)
    by_path, _ = curve_again(str(finished.checkpoint), Output(), lengths=[48], eval_tokens=480, impl="reference")
    assert [(p.length, p.tokens) for p in by_path] == [(48, 480)]


def test_other_text_is_cut_by_the_model_s_own_tokenizer(small: RunConfig, tmp_path: Path) -> None:
    result = fit(change(small, tokenizer="bpe", vocab_size=300, steps=1, heatmaps=0), Output())
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"Paragraph {i}: nothing like Python at all." for i in range(400)))
    points, _ = curve_again(str(result.checkpoint), Output(), data=f"text:{other}", lengths=[32], eval_tokens=64)
    assert points[0].tokens == 64


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_loses_nothing_and_the_run_resumes_bit_for_bit(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    # An epoch of 29 batches or so ends in between; accumulation and dropout have state of their own.
    config = change(small, steps=40, micro_batch=2, dropout=0.1, val_every=7, heatmaps=0, data=few(tmp_path))
    whole = fit(change(config, root=str(tmp_path / "whole")), Output())
    with monkeypatch.context() as patch:
        interrupt_at(patch, 17, number)
        stopped = fit(config, Output())
    assert stopped.interrupted_at == 18
    assert stopped.points == []
    (run,) = runs(config.root)
    assert run.status == "KILLED"
    resumed = fit(RunConfig(root=config.root), Output(), resume="last")
    assert resumed.interrupted_at is None
    assert resumed.run_id == stopped.run_id
    (run,) = runs(config.root)
    assert run.status == "FINISHED"
    (reference,) = runs(tmp_path / "whole")
    assert losses(run) == losses(reference)
    assert resumed.points == whole.points
    one, other = (load(r.checkpoint).state_dict() for r in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def few(tmp_path: Path) -> str:
    """A text so short that 40 steps pass over it more than once."""
    path = tmp_path / "few.txt"
    path.write_text("\n\n".join(f"{i} squared is {i * i}, and cubed {i**3}." for i in range(160)))
    return f"text:{path}"


def test_resuming_a_finished_run_measures_it_again(finished: Result, small: RunConfig) -> None:
    again = fit(RunConfig(root=small.root), Output(), resume=finished.run_id[:8])
    assert [p.nll for p in again.points] == [p.nll for p in finished.points]
    (run,) = runs(small.root)
    assert len(run.store.client.get_metric_history(run.run_id, "extrapolation/ppl")) == 6


def test_a_failure_is_recorded(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, batch: Any, batch_idx: int) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(LanguageModel, "validation_step", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(small, Output())
    assert runs(small.root)[0].status == "FAILED"


def test_learned_says_not_applicable_past_its_table(small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    result = fit(change(small, encoding="learned"), Output())
    assert [p.nll is None for p in result.points] == [False, False, True, True, True, True]
    assert "not applicable" in (result.points[-1].note or "")
    assert "no heatmaps" in capsys.readouterr().out
    (run,) = runs(small.root)
    assert [row["nll"] is None for row in run.curve] == [False, False, True, True, True, True]


def test_accumulation_is_the_same_step(small: RunConfig, tmp_path: Path) -> None:
    results = [
        fit(change(small, micro_batch=micro, heatmaps=0, root=str(tmp_path / str(micro))), Output()) for micro in (4, 1)
    ]
    assert [p.nll for p in results[0].points] == pytest.approx([p.nll for p in results[1].points], rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("encoding", ["rope+k-cable", "cable", "adaptive"])
def test_half_precision(small: RunConfig, encoding: str, precision: str) -> None:
    values = {"encoding": encoding, "precision": precision, "steps": 30, "heatmaps": 0, "lengths": (32, 64)}
    half = fit(change(small, **values), Output())
    assert half.impl == "tiles"
    plain = fit(change(small, **{**values, "precision": "32-true"}), Output())
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
        ({"impl": "fold"}, "low rank"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(small: RunConfig, values: dict[str, Any], message: str) -> None:
    if values.get("accelerator") == "gpu" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UserError, match=message):
        fit(change(small, **values), Output())
    assert not Path(small.root).exists() or not runs(small.root)


def test_nothing_to_resume(small: RunConfig, finished: Result) -> None:
    with pytest.raises(UserError, match="no run 'nonsense'"):
        fit(RunConfig(root=small.root), Output(), resume="nonsense")


def test_a_refused_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": torch.ones(3)}, path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write the checkpoint"):
        writer.save_checkpoint({"a": torch.ones(3)}, tmp_path / "file" / "last.ckpt")
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MachineError, match="No space left on device; what was there is kept"):
        writer.save_checkpoint({"a": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "last.ckpt"]


def test_the_configuration_is_stored_as_it_ran(finished: Result) -> None:
    stored = yaml.safe_load((finished.checkpoint.parent / "config.yaml").read_text())
    assert ResolvedConfig(**stored) == finished.config


def test_lightning_is_the_version_whose_loops_this_was_checked_with() -> None:
    assert L.__version__.startswith("2.6.")
