"""The progress of training: a bar where somebody watches, a line now and then where nobody does."""

from __future__ import annotations

import time
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from extrapo.silence import pause

#: A bar needs no more than this many pictures a second; reading the loss waits for the device.
REFRESH_SECONDS = 0.5


class Rate(Protocol):
    """Something that knows the speed of training."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second so far."""


class TrainingProgress(ProgressBar):
    """Loss, tokens per second and time left, by optimiser step.

    Args:
        console: where to draw.
        rate: knows the speed.
        steps: optimiser steps in all.
    """

    def __init__(self, console: Console, rate: Rate, steps: int) -> None:
        super().__init__()
        self.console, self.rate, self.steps = console, rate, steps
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._shown_at = 0.0
        self._began = 0.0
        self._first_step = 0

    def disable(self) -> None:
        """Draw nothing: Lightning asks this of every rank but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Draw again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the bar up."""
        super().on_train_start(trainer, pl_module)
        self._began, self._first_step = time.monotonic(), trainer.global_step
        if not self._enabled or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            transient=False,
            expand=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=self.steps, completed=trainer.global_step, loss="", rate="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        now = time.monotonic()
        between = REFRESH_SECONDS if self._bar is not None else pause(now - self._began)
        last = trainer.global_step >= self.steps
        if not self._enabled or (now - self._shown_at < between and not last):
            return
        self._shown_at = now
        loss = f"loss {float(outputs['loss']) * trainer.accumulate_grad_batches:.3f}"
        rate = f"{self.rate.tokens_per_second:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, loss=loss, rate=rate)
            return
        done = trainer.global_step - self._first_step
        line = f"step {trainer.global_step}/{self.steps}  {loss}"
        if done > 1:  # the first step also warms up
            left = (now - self._began) / done * (self.steps - trainer.global_step)
            line += f"  {rate}  {left / 60:.1f} min left"
        self.console.print(line, highlight=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bar down."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take the bar down."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
