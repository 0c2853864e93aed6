"""A further rank of a trial: started by the first one and by nobody else, pruned with it, tried again with it (DDP over
gloo).
"""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from optuna.trial import TrialState
from sweeping import Sweep

from extrapo.cli import run
from extrapo.errors import UserError
from extrapo.sweep.queue import STEP
from extrapo.sweep.rank import RANKS, rank_main

DDP = {"devices": 2, "strategy": "ddp", "val_every": 5}


def test_a_rank_is_not_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RANKS, raising=False)
    with pytest.raises(UserError, match="how a sweep starts the ranks"):
        rank_main()
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "sweep" in out
    assert "worker" not in out


def ranks(sweep: Sweep) -> list[int]:
    """Processes of this sweep's trials that a first rank has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(sweep.root) in process.environ().get("EXTRAPO_TRIAL", ""):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_pruned_on_both_ranks_together(sweep: Sweep) -> None:
    space = {"lr": {"from": 0.001, "to": 0.002}}
    pruner = {"name": "threshold", "upper": 0.1}
    fixed = {**DDP, "steps": 40}
    sweep.write(space, mode="search", trials=1, sampler="random", pruner=pruner, fixed=fixed, objective="nll@1T")
    out, _ = sweep.run()
    assert "pruned at step 5" in out
    (trial,) = sweep.trials()
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [5]
    (run,) = sweep.mlflow_runs()
    assert (run.info.status, run.data.tags["extrapo.pruned_at"]) == ("FINISHED", "5")
    assert not ranks(sweep)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_killed_on_one_rank(sweep: Sweep) -> None:
    sweep.write({"seed": [0]}, fixed={**DDP, "steps": 300})
    process = sweep.start()
    sweep.wait_for(lambda: any(t.user_attrs.get(STEP) for t in sweep.running()), process)
    (second,) = ranks(sweep)
    os.kill(second, signal.SIGKILL)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err + sweep.logs()
    first, *_ = sweep.every_cell_once(1)
    assert first.state == TrialState.FAIL
    assert "back in the queue" in out
    assert [run.info.status for run in sweep.mlflow_runs()] == ["FINISHED"]
    assert not ranks(sweep)
