"""What is recorded of an optimiser step: its loss, what moved the weights, how much text, how fast, how much memory."""

from __future__ import annotations

import resource
import sys
from typing import Any

import lightning as L
import torch
from torch import Tensor

from extrapo.config import ResolvedConfig
from extrapo.flops import peak_flops, training_flops
from extrapo.run.divergence import Divergence
from extrapo.run.gradients import gradient_norm
from extrapo.run.speed import Speed, is_recorded
from extrapo.training import LanguageModel


def peak_memory(device: torch.device) -> int:
    """The most bytes that were ever allocated on a GPU; of a CPU, that this process ever had in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class TrainingRecord(L.Callback):
    """Records the steps that `is_recorded` names and each validation, whatever happened before: a resumed run records
    what an uninterrupted one does.

    A step is called by its number, from 1, as in the terminal, in checkpoints and under heatmaps: what stands at step n
    is of the n-th step, or of the weights after n steps. At 0 stands what was before training.

    Args:
        config: says which these are, and how much text each has.
        speed: knows the tokens per second.
        divergence: knows how many steps were left out.
    """

    def __init__(self, config: ResolvedConfig, speed: Speed, divergence: Divergence) -> None:
        self.config, self.speed, self.divergence = config, speed, divergence
        self._step = -1
        self._norm: Tensor | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where training starts."""
        self._step = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take the norm before it is clipped."""
        self._norm = gradient_norm(pl_module) if is_recorded(trainer.global_step + 1, self.config) else None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step where it has ended and is due."""
        step = trainer.global_step
        if step == self._step:
            return  # in the middle of an accumulated step
        self._step = step
        if not is_recorded(step, self.config):
            return
        assert isinstance(pl_module, LanguageModel)
        values = self._of_step(trainer, pl_module, step)
        for logger in trainer.loggers:
            logger.log_metrics(values, step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the loss of the weights as they are after so many steps."""
        for logger in trainer.loggers:
            logger.log_metrics({"val/loss": float(trainer.callback_metrics["val/loss"])}, trainer.global_step)

    def _of_step(self, trainer: L.Trainer, module: LanguageModel, step: int) -> dict[str, float]:
        """All of it, by name. Every rank has a share of the batch, but what is recorded is the loss of the whole."""
        # Not by `sync_dist`, which has to be the same at every step, and would cost a message at each.
        loss = trainer.strategy.reduce(trainer.callback_metrics["train/loss"], reduce_op="mean")
        values = {
            "train/loss": float(loss),
            "train/lr": float(trainer.callback_metrics["train/lr"]),
            "train/tokens": float(step * self.config.batch_size * self.config.seq_len),
            "train/memory": float(peak_memory(module.device)),
        }
        # Of a step that was left out there is none.
        if self._norm is not None:
            values["train/grad_norm"] = float(self._norm)
        if self.speed.tokens_per_second:
            values["train/tokens_per_second"] = self.speed.tokens_per_second
        if (mfu := self._utilisation(trainer, module)) is not None:
            values["train/mfu"] = mfu
        if self.divergence.skipped is not None:
            values["train/skipped_steps"] = float(self.divergence.skipped)
        return values

    def _utilisation(self, trainer: L.Trainer, module: LanguageModel) -> float | None:
        """In half precision, on a card whose peak is known."""
        if module.device.type != "cuda" or "16" not in str(trainer.precision) or not self.speed.tokens_per_second:
            return None
        peak = peak_flops(torch.cuda.get_device_name(module.device))
        if peak is None:
            return None
        needed = self.speed.tokens_per_second * training_flops(module.gpt, self.config.seq_len)
        return needed / (peak * trainer.world_size)
