"""The trials of a study as this package reads and writes them: as Optuna does, and no cell twice."""

from __future__ import annotations

import math
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import OperationalError

from extrapo.sweep.plan import Plan
from extrapo.sweep.queue import PART, Queue
from extrapo.sweep.storage import open_storage
from extrapo.sweep.study import create
from extrapo.sweep.trials import CELL, Trials


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return optuna.create_study(study_name="mine", storage=open_storage(None, tmp_path).rdb)


@pytest.fixture
def trials(study: optuna.Study, tmp_path: Path) -> Trials:
    return Trials(open_storage(None, tmp_path).rdb, study._study_id)


def waiting(cell: int) -> FrozenTrial:
    return create_trial(state=TrialState.WAITING, user_attrs={CELL: cell}, system_attrs={"fixed_params": {"x": cell}})


def attributes(trial: FrozenTrial) -> dict[str, object]:
    return {key: value for key, value in vars(trial).items() if key != "_trial_id"}


def test_a_trial_is_written_as_optuna_writes_it(study: optuna.Study, trials: Trials) -> None:
    template = create_trial(
        state=TrialState.FAIL,
        params={"kernel": "log", "lr": 0.01, "layers": 4},
        distributions={
            "kernel": optuna.distributions.CategoricalDistribution(["linear", "log", None, True]),
            "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
            "layers": optuna.distributions.IntDistribution(2, 8, step=2),
        },
        user_attrs={CELL: 0, "error": "ä 'quoted' error", "nested": {"a": [1, None]}},
        system_attrs={"retry_history": [0, 1], "failed_trial": 0},
        intermediate_values={5: 1.5, 10: math.inf, 15: -math.inf},
    )
    study.add_trial(template)
    assert trials.append([(template, 0)]) == 1
    optunas, ours = study.get_trials()
    assert {**attributes(optunas), "_number": 0} == {**attributes(ours), "_number": 0}
    assert (optunas.number, ours.number) == (0, 1)


def test_a_cell_never_forks(trials: Trials) -> None:
    assert trials.append([(waiting(0), None), (waiting(1), None)]) == 2
    # Done again, by whomever: nothing.
    assert trials.append([(waiting(0), None), (waiting(1), None), (waiting(1), None)]) == 0
    assert trials.append([(waiting(0), 0)]) == 1
    assert trials.append([(waiting(0), 0)]) == 0
    assert trials.append([(waiting(0), 2), (waiting(2), None)]) == 2
    found = [(trial.number, trial.user_attrs[CELL]) for trial in trials.all()]
    assert found == [(0, 0), (1, 1), (2, 0), (3, 0), (4, 2)]


def test_a_commit_whose_answer_is_lost_is_not_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(name="mine", space={"seed": [0, 1, 2]}, objective=["ppl@2T"])
    storage = open_storage(None, tmp_path)
    queue = Queue(plan, create(plan, storage), storage)
    lost = [True, True]
    written = queue._trials.append

    def losing(new: object) -> int:
        count = written(new)  # type: ignore[arg-type]
        if lost:
            lost.pop()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
        return count

    monkeypatch.setattr(queue._trials, "append", losing)
    queue.fill()
    assert not lost
    assert [trial.user_attrs[CELL] for trial in queue.trials()] == [0, 1, 2]


def test_what_is_read_again_is_what_has_changed(
    study: optuna.Study, trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.append([(waiting(cell), None) for cell in range(10)])
    read: list[int] = []
    fetch = trials.rdb._get_trials

    def fetching(*words: object) -> list[FrozenTrial]:
        found = fetch(*words)  # type: ignore[arg-type]
        read.extend(trial.number for trial in found)
        return found

    monkeypatch.setattr(trials.rdb, "_get_trials", fetching)

    def reads() -> list[int]:
        read.clear()
        seen = trials.all()
        assert [attributes(trial) for trial in seen] == [attributes(trial) for trial in study.get_trials()]
        return read

    assert reads() == list(range(10))
    assert reads() == []
    rdb, key = study._storage, study.get_trials()[3]._trial_id
    rdb.set_trial_state_values(key, TrialState.RUNNING)
    assert reads() == [3]
    rdb.set_trial_user_attr(key, "step", 5)
    assert reads() == [3]
    rdb.set_trial_state_values(key, TrialState.COMPLETE, [1.0])
    trials.append([(waiting(10), None)])
    assert reads() == [3, 10]
    assert reads() == []
    assert trials.one(3).values == [1.0]


def test_thousands_of_cells(tmp_path: Path) -> None:
    plan = Plan(name="mine", space={"seed": {"from": 0, "to": 2999}}, objective=["ppl@2T"])
    storage = open_storage(None, tmp_path)
    queue = Queue(plan, create(plan, storage), storage)
    began, told = time.process_time(), []
    queue.fill(told.append)
    filled = time.process_time() - began
    assert told == [PART, 3000]
    queue.counts()
    began = time.process_time()
    for cell in range(5):
        trial = queue.claim()
        assert trial is not None
        assert trial.user_attrs[CELL] == cell
    claimed = (time.process_time() - began) / 5
    print(f"queued in {filled:.2f} s, a claim in {claimed:.3f} s")
    assert filled < 20.0
    assert claimed < 0.5
