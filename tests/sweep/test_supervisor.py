"""A sweep as people run it: Ctrl-C and on again, a trial by its number, the summary, a full disk; and killed, again and
again: every cell completes once, and goes on where it was.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sweeping import Sweep

from disks import small_disk
from extrapo.cli import run as extrapo
from extrapo.sweep.queue import STEP

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.chaos
def test_ctrl_c_and_the_same_command_again(sweep: Sweep) -> None:
    sweep.write({"kernel": ["linear", "cauchy-log"], "seed": [0, 1]}, fixed={"steps": 300})
    process = sweep.start("--workers", "1")
    sweep.wait_for(lambda: any(t.user_attrs.get(STEP) for t in sweep.running()), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    (line,) = [line for line in out.splitlines() if "The same command goes on: " in line]
    assert line.endswith(f" sweep {sweep.file} --workers 1 --root {sweep.root}")
    assert not sweep.running()
    assert all(run.info.status != "RUNNING" for run in sweep.mlflow_runs())
    out, _ = sweep.run("--workers", "1", "--json")
    trials = sweep.every_cell_once(4)
    stopped = next(t for t in trials if t.state == TrialState.FAIL)
    again = next(t for t in trials if stopped.number in RetryHeartbeatStaleTrialCallback.retry_history(t))
    log = (sweep.root / "sweeps" / "tiny" / f"trial-{again.number:04d}.log").read_text()
    # It went on where it was stopped.
    assert "step 1/300" not in log
    document = json.loads(out)
    assert document["study"] == "tiny"
    assert document["trials"] == {"complete": 4, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert [row["seeds"] for row in document["table"]] == [2, 2]
    assert document["best"]["objectives"]["ppl@1T"]["std"] > 0
    assert set(document["per_kernel"]) == {"kernel linear", "kernel cauchy-log"}
    # Stopped, resumed and all: a trial is a function of its settings, bit for bit.
    out, _ = sweep.run("--rerun", str(again.number), "--json")
    assert json.loads(out)["same"] is True
    out, _ = sweep.run("--summary")
    assert "mean ± standard deviation over seeds" in out
    assert json.loads(sweep.run("--summary", "--json")[0]) == document
    assert len(list((sweep.root / "sweeps" / "tiny").glob("best-per-kernel.png"))) == 1


@pytest.mark.chaos
def test_ctrl_c_stops_what_a_dead_supervisor_has_left(sweep: Sweep) -> None:
    sweep.write({"seed": [0, 1]}, fixed={"steps": 4000, "val_every": 10})
    first = sweep.start()
    (orphan,) = sweep.wait_for(lambda: [t for t in sweep.running() if t.user_attrs.get(STEP)], first)
    first.kill()
    first.wait()
    second = sweep.start()
    assert second.stdout is not None
    assert "sweep tiny: 2 cells (1 waiting, 0 done)" in second.stdout.readline()
    assert "trial 0 (seed 0) is still running, and keeps its slot" in second.stdout.readline()
    assert sweep.pid(orphan)
    second.send_signal(signal.SIGINT)
    assert second.wait(100) == 130
    assert not sweep.running()
    assert not sweep.pid(orphan)
    assert all(run.info.status == "KILLED" for run in sweep.mlflow_runs())


@pytest.mark.chaos
def test_a_failure_of_its_own_is_told_and_kept(sweep: Sweep) -> None:
    # Lightning knows this strategy, and needs a package for it that is not there.
    sweep.write({"strategy": ["auto", "deepspeed"]})
    out, _ = sweep.run(code=1)
    assert "trial 1 (strategy deepspeed): failed: Lightning refuses this trainer" in out
    assert [t.state for t in sweep.trials()] == [TrialState.COMPLETE, TrialState.FAIL]
    assert "DeepSpeed" in sweep.trials()[1].user_attrs["error"]
    assert all(run.info.status == "FINISHED" for run in sweep.mlflow_runs())
    # It is not tried again, unless asked for.
    assert extrapo(["sweep", str(sweep.file), "--root", str(sweep.root)]) == 1
    assert len(sweep.trials()) == 2


@pytest.mark.parametrize("objective", [pytest.param("ppl@1T", marks=pytest.mark.chaos), "nll@1T"])
def test_a_cell_that_diverges_has_failed_and_stops_no_other(sweep: Sweep, objective: str) -> None:
    fixed = {"clip": 0, "warmup": 0, "steps": 8, "val_every": 4}
    sweep.write({"lr": [1e30, 0.001]}, fixed=fixed, objective=objective)
    out, _ = sweep.run(code=1)
    assert [trial.state for trial in sweep.trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert "trial 0 (lr 1e+30): failed: the " in out
    assert "the run has diverged" in sweep.trials()[0].user_attrs["error"]
    assert sorted(run.info.status for run in sweep.mlflow_runs()) == ["FAILED", "FINISHED"]


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


@pytest.mark.chaos
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


@pytest.mark.chaos
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


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for the databases and for little more."""
    yield from small_disk(tmp_path / "disk", megabytes=6)


@pytest.mark.chaos
def test_a_disk_that_fills_up(sweep: Sweep, full_disk: Path, text: Path) -> None:
    sweep.folder = full_disk
    sweep.write({"seed": [0, 1]}, fixed={"steps": 400, "val_every": 5})
    process = sweep.start()
    sweep.wait_for(lambda: any(t.user_attrs.get(STEP) for t in sweep.running()), process)
    ballast = full_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2, err
    # On a machine with much to do it also says that it still runs.
    (line,) = [line for line in err.splitlines() if not line.endswith(" so far ...")]
    assert "space" in line
    ballast.unlink()
    sweep.run()
    sweep.every_cell_once(2)
