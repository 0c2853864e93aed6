"""Lightning's MLflow logger, bound to a run that somebody else owns."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger


class RunLogger(MLFlowLogger):
    """Training scalars only: the recorder owns the run's parameters, its status and its folder."""

    def __init__(self, tracking_uri: str, run_id: str, folder: Path) -> None:
        super().__init__(tracking_uri=tracking_uri, run_id=run_id, log_model=False)
        self._folder = folder
        self._recorded: dict[str, int] = {}

    @property
    def save_dir(self) -> str:
        """The run's local folder; Lightning's own is None for a database."""
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
        """Log what can be drawn: an infinity is stored as 1.8e308 and flattens the rest of its chart. What is recorded
        of a step already stays as it is, where a run goes on from a checkpoint before it.
        """
        drawable = {key: value if math.isfinite(value) else math.nan for key, value in metrics.items()}
        drawable.pop("epoch", None)
        if step is not None:
            drawable = {key: value for key, value in drawable.items() if step > self._last_step(key)}
        if drawable:
            super().log_metrics(drawable, step)

    def _last_step(self, key: str) -> int:
        """The last step at which a scalar was recorded before this logger was made; -1 if never."""
        if key not in self._recorded:
            history = self.experiment.get_metric_history(self.run_id, key)
            self._recorded[key] = max((point.step for point in history), default=-1)
        return self._recorded[key]

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: parameters are immutable in MLflow and the recorder has written them."""

    def finalize(self, status: str = "success") -> None:
        """Nothing: a run is over when its curve is recorded, not when `fit` returns."""
