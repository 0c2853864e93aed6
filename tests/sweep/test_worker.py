"""Trials in processes of their own: they read one cache of tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeping import Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.chaos
def test_workers_share_one_cache(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("EXTRAPO_CACHE", str(cache))
    sweep.write({"seed": [0, 1]})
    sweep.run("--workers", "2")
    # Written once, before the workers start; none of them writes it again.
    (manifest,) = cache.rglob("manifest.json")
    starts = [trial.datetime_start for trial in sweep.trials() if trial.datetime_start is not None]
    assert manifest.stat().st_mtime < min(start.timestamp() for start in starts)
    logs = [path.read_text() for path in sweep.root.glob("sweeps/*/*.log")]
    assert len(logs) == 2
    assert not any("tokenizing" in log for log in logs)
