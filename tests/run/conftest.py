"""One finished run for all tests that only look at it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from extrapo.config import RunConfig
from extrapo.run.fit import Result, fit


@pytest.fixture(scope="session")
def finished(text: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The run of the fixture `small`, trained once; its root is in its configuration."""
    config = RunConfig(
        layers=1,
        heads=2,
        dim=16,
        data=f"text:{text}",
        tokenizer="byte",
        seq_len=32,
        steps=6,
        batch_size=4,
        val_every=2,
        val_tokens=256,
        log_every=1,
        eval_tokens=1024,
        heatmaps=2,
        accelerator="cpu",
        root=str(tmp_path_factory.mktemp("finished") / "runs"),
    )
    return fit(config)


@pytest.fixture
def attended() -> Iterator[None]:
    """A terminal that is closed ends what was started from it; these tests may have been started otherwise."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
