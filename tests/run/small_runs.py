"""What the tests of runs have in common: changed settings, recorded losses, a signal at a step."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from extrapo.config import RunConfig
from extrapo.tracking import RecordedRun
from extrapo.training import Batch, LanguageModel


def change(config: RunConfig, **values: Any) -> RunConfig:
    return RunConfig(**{**config.model_dump(exclude_unset=True), **values})


def losses(run: RecordedRun, key: str = "train/loss") -> dict[int, float]:
    history = run.store.client.get_metric_history(run.run_id, key)
    return {point.step: point.value for point in history}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send this process a real signal in the first micro-batch of an optimiser step."""
    plain = LanguageModel.training_step
    sent: list[int] = []

    def training_step(self: LanguageModel, batch: Batch, batch_idx: int) -> Any:
        if self.trainer.global_step == step and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(LanguageModel, "training_step", training_step)


def few(tmp_path: Path) -> str:
    """A text so short that 40 steps pass over it more than once."""
    path = tmp_path / "few.txt"
    path.write_text("\n\n".join(f"{i} squared is {i * i}, and cubed {i**3}." for i in range(160)))
    return f"text:{path}"
