"""Sweeps that are killed, for real and again and again: every cell completes once, at the place where it was."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from contextlib import suppress

import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sweeping import Sweep

from extrapo.sweep.queue import STEP

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(400)]


def resumed(sweep: Sweep, trials: list[FrozenTrial]) -> int:
    """How many attempts went on in the middle of training; every one of them at the checkpoint of the one before."""
    count = 0
    for trial in trials:
        history = RetryHeartbeatStaleTrialCallback.retry_history(trial)
        log = sweep.root / "sweeps" / sweep.name / f"trial-{trial.number:04d}.log"
        if not history or not log.exists():
            continue
        before = trials[history[-1]].user_attrs.get(STEP, 0)
        first = re.search(r"^step (\d+)/", log.read_text(), re.MULTILINE)
        if before and first is not None:
            # A checkpoint is on disk a moment before the database hears of it.
            assert before < int(first[1]) <= before + 11, (trial.number, before, first[1])
            count += 1
    return count


def test_workers_killed_all_the_time(sweep: Sweep) -> None:
    fixed = {"steps": 60, "val_every": 10}
    sweep.write({"encoding": ["cable"], "kernel": ["linear", "log"], "seed": {"from": 0, "to": 11}}, fixed=fixed)
    process = sweep.start("--workers", "4", "--retries", "50", "--json")
    chance, kills, last = random.Random(0), 0, time.monotonic()
    while process.poll() is None:
        # Every other victim has a checkpoint, so that going on from it is put to the test.
        halfway = [t for t in sweep.running() if kills % 2 == 0 or 0 < t.user_attrs.get(STEP, 0) < 50]
        # On a busy machine a trial that is killed every few seconds would never end.
        if halfway and time.monotonic() - last > 3.0 and kills < 10:
            pid = sweep.pid(chance.choice(halfway))
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills, last = kills + 1, time.monotonic()
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err + sweep.logs()
    trials = sweep.every_cell_once(24)
    assert kills >= 5
    assert resumed(sweep, trials) >= 1
    assert '"complete": 24' in out
    runs = sweep.mlflow_runs()
    assert {run.info.status for run in runs if run.data.metrics.get("ppl/000032")} == {"FINISHED"}
    assert sorted(int(r.data.tags["extrapo.cell"]) for r in runs if r.info.status == "FINISHED") == list(range(24))
    assert all(run.info.status != "RUNNING" for run in runs)


def test_the_supervisor_killed(sweep: Sweep) -> None:
    sweep.write({"kernel": ["cauchy-log", "log"], "seed": [0, 1]}, fixed={"steps": 400, "val_every": 10})
    process = sweep.start("--workers", "2")
    victims = sweep.wait_for(lambda: [t for t in sweep.running() if t.user_attrs.get(STEP)], process)
    process.kill()
    process.wait()
    # One orphan dies as well, the other goes on by itself.
    pid = sweep.pid(victims[0])
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    sweep.run("--workers", "2")
    trials = sweep.every_cell_once(4)
    assert any(trial.state == TrialState.FAIL for trial in trials)
    assert resumed(sweep, trials) >= 1
    assert {run.info.status for run in sweep.mlflow_runs()} == {"FINISHED"}
    assert len(sweep.mlflow_runs()) == 4
