"""A run whose loss is no number any more ends where that begins, before such weights replace a good checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from torch import Tensor

from extrapo.config import ResolvedConfig
from extrapo.errors import MachineError
from extrapo.evaluation import Point
from extrapo.run.gradients import gradient_norm


class Diverged(MachineError):
    """A training whose loss is no number any more: on any machine, whenever it is tried again."""


class Divergence(L.Callback):
    """Stops at the first training loss that is NaN or infinite, on any rank, and at such a validation.

    On a GPU it asks now and then, since an answer at every step would hold up its queue; it still says which step was
    the first.

    Args:
        last: the last checkpoint, which is named to go on from.
        every: optimiser steps between questions, where each step would cost.
    """

    #: Steps that were left out; None where that is never done.
    skipped: int | None = None

    def __init__(self, last: Path, every: int) -> None:
        self.last, self.every = last, every
        self._first: Tensor | None = None
        self._step = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember which optimiser step, from 1, this micro-batch is a part of."""
        self._step = trainer.global_step + 1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss, of every micro-batch.

        Raises:
            Diverged: it is no finite number.
        """
        loss = outputs["loss"].detach()
        if self._first is None:
            self._first = torch.zeros((), dtype=torch.int64, device=loss.device)
        fresh = (self._first == 0) & ~torch.isfinite(loss)
        self._first = torch.where(fresh, self._step, self._first)
        if (loss.device.type == "cpu" and trainer.world_size == 1) or self._step % self.every == 0:
            self._ask(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at what the weights have come to before they are kept: checkpoints are written after this.

        Raises:
            Diverged: the validation loss is no finite number, on any rank: it is the same on all.
        """
        if not math.isfinite(float(trainer.callback_metrics["val/loss"])):
            self._stop(f"the validation loss is not a finite number at step {trainer.global_step}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before what follows a validation is kept.

        Raises:
            Diverged: the loss is no finite number.
        """
        self._ask(trainer)

    def _ask(self, trainer: L.Trainer) -> None:
        if self._first is None:
            return
        if trainer.world_size > 1:
            # The same answer on all ranks, so that none waits for another.
            first = torch.where(self._first == 0, torch.iinfo(torch.int64).max, self._first)
            step = int(trainer.strategy.reduce(first, reduce_op="min"))
            step = 0 if step == torch.iinfo(torch.int64).max else step
        else:
            step = int(self._first)
        if step:
            self._stop(f"the training loss is not a finite number at step {step}")

    def _stop(self, what: str) -> NoReturn:
        kept = f"; what was saved before it is in '{self.last}'" if self.last.is_file() else ""
        raise Diverged(f"{what}: the run has diverged{kept}")


class SkippedSteps(Divergence):
    """Leaves out an optimiser step whose loss or gradient is NaN or infinite, in any micro-batch of any rank: weights,
    moments and decay stay as they are, on all ranks alike; the text is passed over. Stops after PATIENCE in a row.

    It asks at every step, which on a GPU holds up its queue.

    Args:
        last: see Divergence.
        say: receives a line for each of them.
    """

    PATIENCE = 20

    def __init__(self, last: Path, say: Callable[[str], None]) -> None:
        super().__init__(last, every=1)
        self.say = say
        self.skipped: int = 0
        self._in_a_row = 0
        self._is_bad = False

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was left out before the checkpoint was written."""
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing: a bad step has been left out by now."""

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Look at the loss of a micro-batch."""
        self._is_bad = self._is_bad or not bool(torch.isfinite(loss))

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take the gradients away where any of it is bad: an optimiser leaves weights without one alone.

        Raises:
            Diverged: this is the last of PATIENCE in a row.
        """
        norm = gradient_norm(pl_module)
        bad = torch.tensor(
            self._is_bad or (norm is not None and not bool(torch.isfinite(norm))),
            dtype=torch.int64,
            device=pl_module.device,
        )
        self._is_bad = False
        if not int(trainer.strategy.reduce(bad, reduce_op="sum")):
            self._in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self._in_a_row += 1
        step = trainer.global_step + 1
        self.say(f"step {step} is left out: its loss or gradient is not a finite number ({self.skipped} so far)")
        if self._in_a_row == self.PATIENCE:
            self._stop(f"{self.PATIENCE} steps in a row, up to step {step}, have no finite loss or gradient")


def watch_loss(config: ResolvedConfig, last: Path, say: Callable[[str], None]) -> Divergence:
    """What a configuration does about a loss that is no number; arguments as those of SkippedSteps."""
    return SkippedSteps(last, say) if config.on_nan == "skip" else Divergence(last, config.log_every)


def check_measured(points: Sequence[Point]) -> None:
    """Raise Diverged where the final weights have no finite loss even at the shortest length: what no validation
    has seen may have diverged in the last steps.
    """
    shortest = min(points, key=lambda point: point.length, default=None)
    if shortest is not None and shortest.nll is not None and not math.isfinite(shortest.nll):
        raise Diverged(
            f"the loss of the trained model is not a finite number at length {shortest.length}: the run has diverged"
        )
