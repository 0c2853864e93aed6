"""Whom a run tells how far it is: the command line draws it, a notebook may want none of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from lightning.pytorch.callbacks import ProgressBar

from extrapo.evaluation import Progress
from extrapo.run.speed import Speed


class Reporter(Protocol):
    """What a run needs of its surroundings."""

    def say(self, line: str) -> None:
        """Take a line for people."""

    def training_progress(self, speed: Speed, steps: int) -> ProgressBar:
        """What shows the progress of `steps` optimiser steps."""

    def curve_progress(self) -> AbstractContextManager[Progress | None]:
        """What shows, while it is open, which length is being measured; see extrapolation_curve."""


class Silent:
    """A reporter that tells nobody: further ranks, tests and notebooks."""

    def say(self, line: str) -> None:
        """Drop the line."""

    def training_progress(self, speed: Speed, steps: int) -> ProgressBar:
        """No bar, not even Lightning's own."""
        return _NoBar()

    def curve_progress(self) -> AbstractContextManager[Progress | None]:
        """Nothing to open."""
        return nullcontext()


class _NoBar(ProgressBar):
    """Lightning draws a bar of its own where no callback is one."""

    def disable(self) -> None:
        """It is."""

    def enable(self) -> None:
        """It stays as it is."""
