"""What a sweep costs beside its trials, in processor time; and that its workers read one cache of tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeping import Sweep

from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.sweep.command import Machine, open_queue
from extrapo.sweep.slots import Slot
from extrapo.sweep.supervisor import LOOK
from extrapo.sweep.task import Task
from extrapo.sweep.worker import RANKS, work
from extrapo.terminal import Output
from extrapo.tracking import RunStore, sweeps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
#: Seconds of a trial, and the share of it that the sweep may take.
TRIAL, SHARE = 60.0, 0.05


def seconds(what: Callable[[], object]) -> float:
    """Processor time of this process: other processes on a busy machine do not count."""
    began = time.process_time()
    what()
    return time.process_time() - began


def test_overhead_is_below_five_percent_of_a_minute(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(RANKS, "")
    # Six validations, as many as a run has unless told otherwise, among the cells of a grid of 24.
    sweep.write({"seed": {"from": 0, "to": 23}}, fixed={"steps": 24, "val_every": 4})
    plan = read(sweep.file)
    queue = open_queue(plan, Machine(sweep.root, None, None, 1, 0, 3), print, new=True)
    store = RunStore.open(Location(sweep.root), plan.name)
    config = plan.settings({"seed": 0}).model_copy(update={"root": str(sweep.root), "experiment": "alone"})
    fit(config, Output())

    def trial() -> None:
        claimed = queue.claim()
        assert claimed is not None
        task = Task(
            plan=plan.model_dump(mode="json", by_alias=True),
            storage=queue.storage.url,
            number=claimed.number,
            root=str(sweep.root),
            tracking_uri=None,
            slot=Slot(0, (), 1),
            log="",
            retries=3,
        )
        assert work(task, lambda message: None) == ("complete", "")

    def look() -> None:
        queue.reap_dead()
        sweeps.close(store, plan.name, queue.living)
        queue.counts()

    alone = min(seconds(lambda: fit(config, Output())) for _ in range(2))
    within = min(seconds(trial) for _ in range(2))
    looks = TRIAL / LOOK * min(seconds(look) for _ in range(3))
    print(f"alone {alone:.2f} s, as a trial {within:.2f} s, the supervisor in a minute {looks:.2f} s")
    assert within - alone + looks < SHARE * TRIAL


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
