"""Pruning: after every validation a run asks whether it should go on, and all ranks obey."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class PruningCallback(Checkpoint):
    """Stops training where the first rank is told to: the others never ask, so that no two ranks disagree.

    It saves nothing: it is a `Checkpoint` because Lightning calls these last, in their order. Behind the one that keeps
    `last.ckpt`, a step that it tells of is on disk.

    Args:
        should_prune: called with the optimiser step and the validation loss; whether to stop. None on further ranks.
        progress: called with the optimiser step, at most once a second.
    """

    def __init__(
        self, should_prune: Callable[[int, float], bool] | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        self.should_prune, self.progress = should_prune, progress
        self.stopped_at: int | None = None
        self._reported_at = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far it is."""
        now = time.monotonic()
        if self.progress is not None and now - self._reported_at > 1.0:
            self._reported_at = now
            self.progress(trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask, on the first rank; agree, on all. A run at its end is not stopped any more."""
        step = trainer.global_step
        stop = self.should_prune is not None and self.should_prune(step, float(trainer.callback_metrics["val/loss"]))
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop and step < trainer.max_steps:
            self.stopped_at = step
            trainer.should_stop = True
