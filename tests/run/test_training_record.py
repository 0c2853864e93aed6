"""What is recorded of training: which steps, and what of each."""

from __future__ import annotations

import re
from io import StringIO

import lightning as L
import pytest
import torch
from rich.console import Console
from small_runs import change, losses

from extrapo.config import RunConfig
from extrapo.flops import peak_flops
from extrapo.run.fit import fit
from extrapo.run.gradients import gradient_norm
from extrapo.run.reporter import Silent
from extrapo.run.speed import Speed
from extrapo.run.training_record import peak_memory
from extrapo.terminal.progress import TrainingProgress
from extrapo.tracking import runs


@pytest.mark.parametrize(
    ("steps", "every", "recorded"), [(5, 10, [1, 5]), (1, 10, [1]), (12, 5, [1, 5, 10, 12]), (4, 1, [1, 2, 3, 4])]
)
def test_the_first_step_and_the_last_are_recorded(
    small: RunConfig, steps: int, every: int, recorded: list[int]
) -> None:
    """With accumulation, where a step has several batches."""
    values = {"steps": steps, "log_every": every, "micro_batch": 2, "heatmaps": 0, "lengths": (32,)}
    fit(change(small, encoding="nope", **values))
    (run,) = runs(small.root)
    for key in ("loss", "lr", "grad_norm", "tokens", "memory"):
        assert sorted(losses(run, f"train/{key}")) == recorded, key
    # The first step only warms up.
    assert sorted(losses(run, "train/tokens_per_second")) == [step for step in recorded if step > 1]
    assert losses(run, "train/tokens") == {step: step * 4 * 32 for step in recorded}
    assert not losses(run, "train/skipped_steps")
    assert not losses(run, "train/mfu"), "of a CPU there is none"


@pytest.mark.parametrize(("steps", "every", "validated"), [(10, 4, [4, 8, 10]), (8, 4, [4, 8]), (3, 5, [3])])
def test_the_last_step_is_validated_and_a_step_has_one_number(
    small: RunConfig, steps: int, every: int, validated: list[int]
) -> None:
    """In the record, in the terminal, in the checkpoints, under the heatmaps, of the curve."""
    values = {"steps": steps, "val_every": every, "micro_batch": 2, "log_every": 1, "heatmaps": 2, "lengths": (32,)}
    screen = StringIO()

    class Notebook(Silent):
        """Keeps the steps that a terminal would show."""

        def training_progress(self, speed: Speed, steps: int) -> TrainingProgress:
            return TrainingProgress(Console(file=screen, width=100), speed, steps)

    result = fit(change(small, encoding="alibi", **values), Notebook())
    (run,) = runs(small.root)
    assert sorted(losses(run, "val/loss")) == validated
    assert max(losses(run)) == steps
    lines = screen.getvalue().splitlines()
    shown = re.fullmatch(rf"step {steps}/{steps}  loss ([0-9.]+).*", lines[-1])
    assert shown, lines
    assert torch.load(result.checkpoint, weights_only=True)["global_step"] == steps
    best = torch.load(result.checkpoint.with_name("best.ckpt"), weights_only=True)["global_step"]
    recorded = losses(run, "val/loss")
    assert best == min(recorded, key=recorded.__getitem__)
    assert list(run.heatmaps()) == [0, steps]
    assert run.tags["extrapo.curve_step"] == str(steps)


class Watch(L.Callback):
    """Computes the norm of the mean loss's gradient again, from what the step had, before the step changes it."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [weight.grad.double().flatten() for weight in pl_module.parameters() if weight.grad is not None]
        self.norms.append(float(torch.cat(gradients).norm()))


def test_the_norm_is_of_the_whole_gradient_before_it_is_clipped(small: RunConfig) -> None:
    watch = Watch()
    fit(change(small, encoding="k-cable", clip=1e-3, heatmaps=0, lengths=(32,)), callbacks=[watch])
    (run,) = runs(small.root)
    recorded = losses(run, "train/grad_norm")
    assert [recorded[step] for step in range(1, 7)] == pytest.approx(watch.norms, rel=1e-5)
    assert min(watch.norms) > 1e-3


def test_without_gradients_there_is_no_norm() -> None:
    layer = torch.nn.Linear(3, 1, bias=False)
    assert gradient_norm(layer) is None
    layer(torch.tensor([3.0, 0.0, 4.0])).backward()
    assert gradient_norm(layer) == pytest.approx(5.0)


def test_memory_grows_by_what_is_held() -> None:
    before = peak_memory(torch.device("cpu"))
    held = torch.zeros(64 * 2**20)
    assert peak_memory(torch.device("cpu")) >= held.nbytes > 0
    assert peak_memory(torch.device("cpu")) >= before


@pytest.mark.gpu
def test_a_gpu_has_its_utilisation(small: RunConfig) -> None:
    values = {"accelerator": "gpu", "precision": "bf16-mixed", "compile": False, "heatmaps": 0, "lengths": (32,)}
    fit(change(small, encoding="nope", devices=1, **values))
    (run,) = runs(small.root)
    known = peak_flops(torch.cuda.get_device_name()) is not None
    assert sorted(losses(run, "train/mfu")) == ([2, 3, 4, 5, 6] if known else [])
    assert all(0 < share < 1 for share in losses(run, "train/mfu").values())
    assert 0 < losses(run, "train/memory")[6] <= torch.cuda.max_memory_allocated()
