"""How fast a run trains, and the steps at which that is recorded."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch

from extrapo.config import ResolvedConfig


def is_recorded(step: int, config: ResolvedConfig) -> bool:
    """Whether an optimiser step, from 1, is recorded: the first, the last, and every so many between."""
    return step in (1, config.steps) or step % config.log_every == 0


class Speed(L.Callback):
    """Tokens per second of training, over all devices, without validation and drawing; the first step warms up.

    Args:
        config: says how many tokens a step has, and which steps are recorded: at these it waits for the device, whose
            work would else be counted when it is ordered, not when it is done.
    """

    def __init__(self, config: ResolvedConfig) -> None:
        self.config, self.tokens = config, config.batch_size * config.seq_len
        self.seconds = 0.0
        self.steps = 0
        self._began = self._ended = 0.0
        self._last_step = -1
        self._warm = False

    @property
    def tokens_per_second(self) -> float:
        """Mean so far; 0 before the second step."""
        return self.steps * self.tokens / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where training starts."""
        self._last_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of a micro-batch."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock."""
        stepped = trainer.global_step != self._last_step
        self._last_step = trainer.global_step
        if not self._warm or (stepped and is_recorded(trainer.global_step, self.config)):
            wait_for(pl_module.device)
        self._ended = time.perf_counter()
        if self._warm:
            self.seconds += self._ended - self._began
            self.steps += stepped
        self._warm = self._warm or stepped

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What a GPU had still to do of the last step counts as training."""
        if self._warm and self.steps:
            wait_for(pl_module.device)
            self.seconds += time.perf_counter() - self._ended if pl_module.device.type != "cpu" else 0.0


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was told: it is told of a step sooner than it takes."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
