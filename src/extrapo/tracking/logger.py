"""Lightning's way to the scalars of a run that somebody else owns."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from extrapo.tracking.entries import Scalars, now


class RunLogger(Logger):
    """Training scalars only: the recorder owns the run's parameters, its status and its folder.

    Args:
        record: takes the scalars of a step.
        folder: of the run.
    """

    def __init__(self, record: Callable[[Scalars], None], folder: Path) -> None:
        super().__init__()
        self._record, self._folder = record, folder

    @property
    def save_dir(self) -> str:
        """The run's local folder."""
        return str(self._folder)

    @property
    def name(self) -> str:
        """Empty, so that Lightning puts nothing between the run's folder and its files."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as the name."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record what can be drawn: an infinity is stored as 1.8e308 and flattens the rest of its chart."""
        drawable = {key: float(value) if math.isfinite(value) else math.nan for key, value in metrics.items()}
        drawable.pop("epoch", None)
        if drawable:
            self._record(Scalars(drawable, step or 0, now()))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: parameters are immutable in MLflow and the recorder has written them."""
