"""A run whose loss is no number any more ends where that begins, before such weights replace a good checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from torch import Tensor

from extrapo.errors import MachineError
from extrapo.evaluation import Point


class Divergence(L.Callback):
    """Stops at the first loss that is NaN or infinite, on any rank.

    On a GPU it asks now and then, since an answer at every step would hold up its queue; it still says which step was
    the first.

    Args:
        last: the last checkpoint, which is named to go on from.
        every: optimiser steps between questions, where each step would cost.
    """

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
            MachineError: it is no finite number.
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
            MachineError: the validation loss is no finite number, on any rank: it is the same on all.
        """
        if not math.isfinite(float(trainer.callback_metrics["val/loss"])):
            self._stop(trainer.global_step, "validation")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before what follows a validation is kept.

        Raises:
            MachineError: the loss is no finite number.
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
            self._stop(step, "training")

    def _stop(self, step: int, kind: str) -> NoReturn:
        kept = f"; what was saved before it is in '{self.last}'" if self.last.is_file() else ""
        raise MachineError(f"the {kind} loss is not a finite number at step {step}: the run has diverged{kept}")


def check_measured(points: Sequence[Point]) -> None:
    """Raise MachineError where the final weights have no finite loss even at the shortest length: what no validation
    has seen may have diverged in the last steps.
    """
    shortest = min(points, key=lambda point: point.length, default=None)
    if shortest is not None and shortest.nll is not None and not math.isfinite(shortest.nll):
        raise MachineError(
            f"the loss of the trained model is not a finite number at length {shortest.length}: the run has diverged"
        )
