"""The queue in one process: whoever dies in whatever moment, every cell is done once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from extrapo.sweep import process as processes
from extrapo.sweep.queue import CELL, ERROR, PROCESS, RETURNED, STEP, Queue, state
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import DATABASE, open_storage
from extrapo.sweep.study import create_study


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec(**{"name": "mine", "space": {"layers": [2, 4], "seed": [0, 1]}, "objective": "ppl@2T", **changes})


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return opened(tmp_path, spec())


def opened(root: Path, asked: SweepSpec, retries: int = 2) -> Queue:
    storage = open_storage(None, root)
    queue = Queue(asked, create_study(asked, storage), storage, retries)
    queue.enqueue_missing()
    return queue


def claimed(queue: Queue) -> FrozenTrial:
    trial = queue.claim()
    assert trial is not None
    return trial


@pytest.fixture(scope="session")
def dead() -> dict[str, Any]:
    """The identity of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    where = {**processes.identity(), "pid": process.pid, "born": psutil.Process(process.pid).create_time()}
    process.kill()
    process.wait()
    return where


def test_every_cell_is_queued_first_and_once(queue: Queue) -> None:
    queue.enqueue_missing()
    assert queue.counts() == {"waiting": 4}
    assert [t.system_attrs["fixed_params"] for t in queue.trials()] == queue.spec.cells()


def test_a_queue_that_was_half_filled_is_filled_up(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    study = create_study(spec(), storage)
    cell = spec().cells()[2]
    study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": cell}, user_attrs={CELL: 2}))
    queue = Queue(spec(), study, storage)
    queue.enqueue_missing()
    assert sorted(queue.cells()) == [0, 1, 2, 3]
    assert len(queue.trials()) == 4


def test_what_is_claimed_is_what_was_queued(queue: Queue) -> None:
    for cell in queue.spec.cells():
        trial = claimed(queue)
        for _ in range(2):
            assert queue.suggest(trial)[1] == cell
        assert queue.complete(trial, [1.0])
    assert queue.claim() is None
    assert queue.counts() == {"complete": 4}
    # As Optuna's own fixed parameters: the dashboard shows them.
    assert [trial.params for trial in queue.study.get_trials()] == queue.spec.cells()


@pytest.mark.slow
def test_a_dead_process_is_found_and_its_cell_queued_again(queue: Queue, dead: dict[str, Any]) -> None:
    trial, alive = claimed(queue), claimed(queue)
    queue.set_attributes(trial, **{PROCESS: dead, STEP: 5})
    assert [t.number for t in queue.reap_dead()] == [trial.number]
    again = queue.cells()[0]
    assert (state(again), RetryHeartbeatStaleTrialCallback.retry_history(again)) == ("waiting", [trial.number])
    assert again.user_attrs[STEP] == 5
    assert state(queue.cells()[alive.user_attrs[CELL]]) == "running"
    assert queue.reap_dead() == []
    assert len(queue.trials()) == 5


@pytest.mark.slow
def test_whoever_was_given_up_cannot_complete(queue: Queue, dead: dict[str, Any]) -> None:
    trial = claimed(queue)
    queue.set_attributes(trial, **{PROCESS: dead})
    queue.reap_dead()
    assert not queue.heartbeat(trial)
    assert not queue.complete(trial, [1.0])
    assert state(queue.cells()[0]) == "waiting"


@pytest.mark.parametrize("told", [1, 2])
def test_telling_twice_is_telling_once(queue: Queue, told: int) -> None:
    trial = claimed(queue)
    for _ in range(told):
        assert queue.complete(trial, [1.0])
    assert queue.counts() == {"waiting": 3, "complete": 1}


def test_a_death_between_failing_and_queueing_again(queue: Queue) -> None:
    trial = claimed(queue)
    queue.storage.rdb.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    assert queue.counts()["waiting"] == 4
    for _ in range(2):
        queue.reap_dead()
    assert len(queue.trials()) == 5


@pytest.mark.slow
def test_a_look_reads_before_the_lock_and_decides_under_it(
    queue: Queue, dead: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between one is given a process that lives, one completes, and another machine follows the one that died."""
    moved, ended, died = claimed(queue), claimed(queue), claimed(queue)
    for trial in (moved, ended):
        queue.set_attributes(trial, **{PROCESS: dead})
    queue.storage.rdb.set_trial_state_values(died._trial_id, TrialState.FAIL)
    other = Queue(queue.spec, queue.study, queue.storage)

    def read() -> list[FrozenTrial]:
        trials = other._read()
        with FileLock(tmp_path / f"{DATABASE}.lock", timeout=0):
            pass
        queue.set_attributes(moved, **{PROCESS: processes.identity()})
        other.complete(ended, [1.0])
        other.reap_dead()
        return trials

    monkeypatch.setattr(queue, "_read", read)
    assert queue.reap_dead() == []
    assert [trial.state for trial in queue.trials()] == [
        *(TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL),
        *(TrialState.WAITING, TrialState.WAITING),
    ]


def deaths(queue: Queue, dead: dict[str, Any], steps: list[int]) -> FrozenTrial:
    """Die once after each of these steps; the cell's last trial."""
    while (trial := claimed(queue)).user_attrs[CELL] != 0:
        queue.complete(trial, [1.0])
    for step in steps:
        queue.set_attributes(trial, **{PROCESS: dead, STEP: step})
        queue.reap_dead()
        if state(queue.cells()[0]) == "failed":
            break
        while (trial := claimed(queue)).user_attrs[CELL] != 0:
            queue.complete(trial, [1.0])
    return queue.cells()[0]


@pytest.mark.slow
def test_who_dies_at_one_place_is_given_up(queue: Queue, dead: dict[str, Any]) -> None:
    last = deaths(queue, dead, [5, 5, 5, 5])
    assert state(last) == "failed"
    assert "died 3 times in a row at step 5" in last.user_attrs[ERROR]
    # Asked for, it begins anew, and is what it was, although no attempt got as far as choosing.
    assert queue.retry_failed() == 1
    while (again := claimed(queue)).user_attrs[CELL] != 0:
        queue.complete(again, [1.0])
    assert queue.suggest(again)[1] == queue.spec.cells()[0]
    assert STEP not in again.user_attrs
    queue.set_attributes(again, **{PROCESS: dead})
    queue.reap_dead()
    assert state(queue.cells()[0]) == "waiting"


@pytest.mark.slow
def test_who_gets_further_is_not_given_up(queue: Queue, dead: dict[str, Any]) -> None:
    assert state(deaths(queue, dead, [5, 5, 10, 10, 15, 15])) == "running"


def test_stopped_on_purpose_is_no_death(queue: Queue) -> None:
    for _ in range(10):
        trial = claimed(queue)
        queue.requeue(trial)
    assert queue.counts() == {"waiting": 4}
    assert all("deaths" not in t.user_attrs and RETURNED not in t.user_attrs for t in queue.cells().values())


def test_an_error_of_its_own_is_final_until_asked_for(queue: Queue) -> None:
    trial = claimed(queue)
    queue.fail(trial, "ValueError: no")
    queue.reap_dead()
    assert queue.counts() == {"waiting": 3, "failed": 1}
    assert queue.retry_failed() == 1
    assert queue.retry_failed() == 0
    assert queue.counts() == {"waiting": 4}


def test_what_is_no_number_has_failed(queue: Queue) -> None:
    trial = claimed(queue)
    queue.complete(trial, [float("nan")])
    assert "not a number" in queue.cells()[0].user_attrs[ERROR]


def test_an_infinite_perplexity_is_a_result(queue: Queue) -> None:
    queue.complete(claimed(queue), [float("inf")])
    assert queue.counts()["complete"] == 1


def test_pruned_keeps_its_last_report(tmp_path: Path) -> None:
    queue = opened(tmp_path, spec(mode="search", trials=2, sampler="random"))
    trial = claimed(queue)
    running, _ = queue.suggest(trial)
    running.report(3.5, 10)
    assert queue.prune(trial)
    assert queue.trials()[0].value == 3.5
    assert queue.counts() == {"pruned": 1, "waiting": 1}


def test_a_search_may_go_on_with_more_trials(tmp_path: Path) -> None:
    assert opened(tmp_path, spec(mode="search", trials=2)).counts() == {"waiting": 2}
    assert opened(tmp_path, spec(mode="search", trials=3, sampler="random")).counts() == {"waiting": 3}


def test_what_a_trial_tries_is_known_before_it_starts(queue: Queue, tmp_path: Path) -> None:
    assert [queue.choice(trial) for trial in queue.trials()] == queue.spec.cells()
    # A search that now asks for fewer trials than it has: nothing is known of those that wait.
    opened(tmp_path / "search", spec(name="search", mode="search", trials=3))
    fewer = opened(tmp_path / "search", spec(name="search", mode="search", trials=1))
    assert [fewer.choice(trial) for trial in fewer.trials()] == [{}, {}, {}]


def test_encodings_per_layer_are_kept_as_written(tmp_path: Path) -> None:
    encodings = ["rope+window:3,nope:1", "cable:2,alibi:2"]
    queue = opened(tmp_path, spec(space={"encoding": encodings}))
    assert [queue.suggest(claimed(queue))[1] for _ in encodings] == [{"encoding": name} for name in encodings]
    assert [trial.params["encoding"] for trial in queue.trials()] == encodings


def test_a_trial_that_is_not_its_cells_last_does_not_count(queue: Queue) -> None:
    # As after a commit whose answer was lost: the first cell is queued twice.
    queue.study.enqueue_trial(queue.spec.cells()[0], user_attrs={CELL: 0})
    assert queue.counts() == {"waiting": 4}
    assert [claimed(queue).number for _ in range(4)] == [1, 2, 3, 4]
    assert queue.claim() is None
    queue.reap_dead()
    assert [trial.state for trial in queue.trials()] == [TrialState.FAIL, *[TrialState.RUNNING] * 4]


def test_a_commit_whose_answer_is_lost_queues_no_cell_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(None, tmp_path)
    queue = Queue(spec(), create_study(spec(), storage), storage)
    lost, enqueue = [True, True], queue.study.enqueue_trial

    def losing(*words: Any, **more: Any) -> None:
        enqueue(*words, **more)
        if lost:
            lost.pop()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(queue.study, "enqueue_trial", losing)
    queue.enqueue_missing()
    assert not lost
    assert [trial.user_attrs[CELL] for trial in queue.trials()] == [0, 1, 2, 3]


def statements(queue: Queue, what: Callable[[], object]) -> int:
    """How often the database is asked something."""
    count = 0

    def counted(*words: object) -> None:
        nonlocal count
        count += 1

    event.listen(queue.storage.rdb.engine, "before_cursor_execute", counted)
    what()
    event.remove(queue.storage.rdb.engine, "before_cursor_execute", counted)
    return count


def test_a_look_at_many_cells_asks_no_more_than_one_at_few(tmp_path: Path) -> None:
    few = opened(tmp_path / "few", spec())
    many = opened(tmp_path / "many", spec(space={"seed": {"from": 0, "to": 99}}))
    for look in (Queue.reap_dead, Queue.claim, Queue.counts):
        assert statements(many, lambda look=look: look(many)) <= statements(few, lambda look=look: look(few)) + 2  # type: ignore[misc]


def many(root: Path, work: Callable[[Queue], None]) -> None:
    work(opened(root, spec(space={"seed": {"from": 0, "to": 19}})))


RACE = """
import sys
from pathlib import Path
from test_queue import many
def work(queue):
    while (trial := queue.claim()) is not None:
        queue.complete(trial, [1.0])
        print(trial.user_attrs["cell"], flush=True)
many(Path(sys.argv[1]), work)
"""


@pytest.mark.slow
def test_several_processes_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    ran = [int(line) for racer in racers for line in racer.communicate(timeout=200)[0].split()]
    assert sorted(ran) == list(range(20))
