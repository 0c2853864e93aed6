"""A run that diverges says so, at the step, and keeps what was good."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import change, losses

from extrapo.cli import run as command
from extrapo.config import RunConfig
from extrapo.errors import MachineError
from extrapo.run.fit import fit
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
