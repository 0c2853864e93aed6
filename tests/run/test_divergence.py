"""A run that diverges says so, at the step, and keeps what was good."""

from __future__ import annotations

import math
from collections.abc import Container
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small_runs import change, interrupt_at, losses

from extrapo.cli import run as command
from extrapo.config import RunConfig
from extrapo.errors import MachineError
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.run.resume import resume
from extrapo.terminal import Output
from extrapo.tracking import runs
from extrapo.training import Batch, LanguageModel


@pytest.mark.parametrize(("step", "value"), [(7, math.nan), (8, math.inf), (1, math.nan)])
def test_the_step_is_named_and_the_last_checkpoint_is_a_good_one(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, step: int, value: float
) -> None:
    """Also in one micro-batch of several, and where a validation follows right after."""
    plain = LanguageModel.training_step

    def training_step(self: LanguageModel, batch: Batch, batch_idx: int) -> Any:
        loss = plain(self, batch, batch_idx)
        # The first of a step's two micro-batches.
        return loss * value if self.trainer.global_step == step - 1 and batch_idx % 2 == 0 else loss

    monkeypatch.setattr(LanguageModel, "training_step", training_step)
    config = change(small, encoding="nope", heatmaps=0, steps=12, val_every=4, micro_batch=2, lengths=(32,))
    with pytest.raises(MachineError, match=f"not a finite number at step {step}: the run has diverged") as raised:
        fit(config)
    (run,) = runs(config.root)
    assert run.status == "FAILED"
    last = Path(config.root) / run.run_id / "last.ckpt"
    assert (str(last) in str(raised.value)) == last.is_file() == (step > 4)
    if last.is_file():
        saved = torch.load(last, weights_only=True)
        assert saved["global_step"] == 4
        assert all(torch.isfinite(value).all() for value in saved["state_dict"].values() if value.is_floating_point())
    assert all(math.isfinite(loss) for loss in losses(run).values())


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_that_a_validation_finds_exploded_are_not_kept(small: RunConfig, steps: int) -> None:
    """The loss of a step is from before its update: what that did shows in the validation after it, or in the curve."""
    config = change(small, encoding="nope", heatmaps=0, steps=steps, warmup=0, lr=1e25, clip=0.0, lengths=(32,))
    for val_every in (1, 2):
        values = {"val_every": val_every, "root": f"{config.root}-{val_every}"}
        with pytest.raises(MachineError, match="not a finite number"):
            fit(change(config, **values))
        (run,) = runs(values["root"])
        assert run.status == "FAILED"
        if val_every == 1:
            assert not (Path(values["root"]) / run.run_id / "last.ckpt").exists()


def test_a_rate_that_is_far_too_high_ends_with_one_line_and_exit_code_1(
    small: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = change(small, encoding="nope", heatmaps=0, steps=60, lr=1e25, clip=0.0, lengths=(32,))
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in config.model_dump(exclude_unset=True).items()]
    assert command(["fit", *[flag for flag in flags if "lengths" not in flag]]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("extrapo: error: the ")
    assert "loss is not a finite number at step" in line


def spoil(monkeypatch: pytest.MonkeyPatch, steps: Container[int], value: float = math.nan) -> None:
    """The first of the micro-batches of these steps, from 1, has a loss times `value`."""
    plain = LanguageModel.training_step
    seen: list[int] = []

    def training_step(self: LanguageModel, batch: Batch, batch_idx: int) -> Any:
        loss = plain(self, batch, batch_idx)
        step = self.trainer.global_step + 1
        seen.append(step)
        return loss * value if step in steps and seen.count(step) == 1 else loss

    monkeypatch.setattr(LanguageModel, "training_step", training_step)


class Weights(L.Callback):
    """Keeps the weights, and what the optimiser remembers, as they are after each step."""

    def __init__(self) -> None:
        self.after: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step > len(self.after):
            moments = [m for state in trainer.optimizers[0].state.values() for m in state.values()]
            self.after.append([tensor.detach().clone() for tensor in (*pl_module.parameters(), *moments)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_skipped_step_leaves_weights_and_moments_as_they_are(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    spoil(monkeypatch, (1, 4, 5), value)
    watch = Weights()
    config = change(small, encoding="nope", heatmaps=0, steps=8, micro_batch=2, lengths=(32,), on_nan="skip")
    result = fit(config, Output(), callbacks=[watch])
    assert result.skipped_steps == result.summary()["skipped_steps"] == 3
    same = [all(map(torch.equal, one, other)) for one, other in pairwise(watch.after)]
    assert same == [False, False, True, True, False, False, False]
    assert len(watch.after[0]) < len(watch.after[1]), "no moments yet"
    told = [line for line in capsys.readouterr().out.splitlines() if "is left out" in line]
    assert [line.split()[1] for line in told] == ["1", "4", "5"]
    (run,) = runs(config.root)
    assert run.status == "FINISHED"
    assert losses(run, "train/skipped_steps") == dict(enumerate([1, 1, 1, 2, 3, 3, 3, 3], start=1))
    assert sorted(losses(run, "train/grad_norm")) == [2, 3, 6, 7, 8]
    assert all(math.isfinite(point.nll or math.nan) for point in result.points)


def test_a_gradient_that_is_no_number_is_skipped_as_well(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the loss is one."""

    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad * math.nan

    plain = LanguageModel.training_step

    def training_step(self: LanguageModel, batch: Batch, batch_idx: int) -> Any:
        loss = plain(self, batch, batch_idx)
        return Spoiled.apply(loss) if self.trainer.global_step == 2 else loss

    monkeypatch.setattr(LanguageModel, "training_step", training_step)
    assert fit(change(small, encoding="nope", heatmaps=0, lengths=(32,), on_nan="skip")).skipped_steps == 1


def test_too_many_in_a_row_fail_and_what_was_good_is_kept(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, range(5, 1000))
    config = change(small, encoding="nope", heatmaps=0, steps=40, val_every=4, lengths=(32,), on_nan="skip")
    with pytest.raises(MachineError, match="20 steps in a row, up to step 24, have no finite loss or gradient"):
        fit(config)
    (run,) = runs(config.root)
    assert run.status == "FAILED"
    saved = torch.load(Path(config.root) / run.run_id / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 20
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values() if value.is_floating_point())


def test_what_was_skipped_is_counted_on_after_a_resumption(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = change(small, encoding="nope", heatmaps=0, steps=12, lengths=(32,), on_nan="skip")
    with monkeypatch.context() as patch:
        spoil(patch, (2, 3, 9))
        whole = fit(change(config, root=f"{config.root}-whole"))
    with monkeypatch.context() as patch:
        spoil(patch, (2, 3, 9))
        interrupt_at(patch, 5)
        assert fit(config).skipped_steps == 2
        resumed = resume("last", Location.of(config))
    assert resumed.skipped_steps == whole.skipped_steps == 3
    assert resumed.points == whole.points
