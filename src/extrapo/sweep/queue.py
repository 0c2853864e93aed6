"""The queue of a study: every cell waits, runs or is done, whoever dies. The database is the only memory.

A cell is a chain of Optuna trials: the first is queued before anything runs, and each one that died is followed by one
that goes on in its place. Only the last trial of the chain counts: it says how the cell stands, and it alone is
claimed. All changes of state are made under the storage's lock, and each looks first, so that doing it twice does no
harm. Three rules make up for whatever was lost between two steps: a missing cell is queued; a running trial without a
process or a sign of life has failed; a failed trial that has no error of its own and no successor gets one.

Heartbeats, stale trials and retries are Optuna's own.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from extrapo.errors import UserError
from extrapo.sweep import process
from extrapo.sweep.growth import cells_of, choices_of
from extrapo.sweep.spec import Cell, SweepSpec
from extrapo.sweep.storage import Storage
from extrapo.sweep.study import suggest

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: Attributes of a trial: the number of its cell, its process and the one that started it.
CELL, PROCESS, KEEPER = "cell", "process", "keeper"
#: The step of its last checkpoint, why it failed, whether it was stopped on purpose.
STEP, ERROR, RETURNED = "step", "error", "returned"
#: Its run in MLflow, its curve, its threads.
RUN, CURVE, THREADS = "run_id", "curve", "threads"
#: Cells that are queued under one lock.
PART = 100

#: How a cell stands.
CellState: TypeAlias = Literal["waiting", "running", "complete", "pruned", "failed"]


class Queue:
    """The cells of a study.

    Args:
        spec: the question.
        study: its study.
        storage: where it is.
        retries: deaths in a row without a new checkpoint after which a cell has failed.
    """

    def __init__(self, spec: SweepSpec, study: optuna.Study, storage: Storage, retries: int = 3) -> None:
        self.spec, self.study, self.storage, self.retries = spec, study, storage, retries

    @cached_property
    def _written(self) -> Sequence[Cell]:
        """What is queued, by the number of the cell."""
        if self.spec.mode == "search":
            return [{}] * self.spec.size
        return self.storage.patiently(lambda: cells_of(self.study))

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.storage.patiently(lambda: self.study.get_trials(deepcopy=False))

    def trial(self, number: int) -> FrozenTrial:
        """The trial of a number, as it stands."""
        return self.storage.patiently(lambda: self._one(number))

    def cells(self) -> dict[int, FrozenTrial]:
        """Each cell's last trial."""
        return by_cell(self.trials())

    def counts(self) -> Counter[str]:
        """How many cells are in each state."""
        return Counter[str](state(trial) for trial in self.cells().values())

    def running_cells(self) -> set[int]:
        """The cells that are running."""
        return {cell for cell, trial in self.cells().items() if state(trial) == "running"}

    def choice(self, trial: FrozenTrial) -> Cell:
        """What a trial tries; empty for one of a search that has not started."""
        is_known = bool(trial.params) or self.spec.mode == "search"
        cell: Cell = trial.params if is_known else self._written[trial.user_attrs[CELL]]
        return cell

    def enqueue_missing(self, report: Callable[[int], None] = lambda done: None) -> None:
        """Queue the cells that are missing.

        Args:
            report: called with the number of cells that are there, part by part.
        """
        if not self._written:
            raise UserError("an empty grid: the conditions leave no cell")

        def enqueue(part: Sequence[int]) -> None:
            with self.storage.locked(self.spec.name):
                there = by_cell(self._read())
                for index in part:
                    if index not in there:
                        self.study.enqueue_trial(self._written[index], user_attrs={CELL: index})

        there = self.cells()
        missing = [index for index in range(len(self._written)) if index not in there]
        for part in (missing[first : first + PART] for first in range(0, len(missing), PART)):
            self.storage.patiently(lambda part=part: enqueue(part))  # type: ignore[misc]
            report(part[-1] + 1)

    def claim(self) -> FrozenTrial | None:
        """Take the first waiting trial for this process; None if there is none."""
        from optuna.trial import TrialState

        rdb = self.storage.rdb

        def claim_first() -> FrozenTrial | None:
            with self.storage.locked(self.spec.name):
                for trial_id in self.storage.waiting(self.spec.name, CELL):
                    for key in (PROCESS, KEEPER):
                        rdb.set_trial_user_attr(trial_id, key, process.identity())
                    # It lives before it runs: a running trial that never gave a sign of life is never found dead.
                    rdb.record_heartbeat(trial_id)
                    if rdb.set_trial_state_values(trial_id, TrialState.RUNNING):
                        return rdb.get_trial(trial_id)
            return None

        return self.storage.patiently(claim_first)

    def suggest(self, claimed: FrozenTrial) -> tuple[optuna.Trial, Cell]:
        """Optuna's handle of a claimed trial, and what it is to try: its queued cell, or the choice of the sampler."""
        import optuna

        def choose() -> tuple[optuna.Trial, Cell]:
            # Optuna's cache keeps parameters only of trials that it has read.
            self._read()
            trial = optuna.Trial(self.study, self._id(claimed.number))
            return trial, suggest(self.spec, trial, choices_of(self.study) if self.spec.mode == "grid" else {})

        return self.storage.patiently(choose)

    def reap_dead(self) -> list[FrozenTrial]:
        """Find the dead, and queue again what they leave; returns the trials found dead.

        On this machine a trial is dead without its process, elsewhere without a sign of life. After the storage was
        away, other machines are left alone for a while: their signs of life are late as well.
        """
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        def look() -> list[FrozenTrial]:
            # Before the lock: a study of many thousand cells takes a second to read, in which nobody could claim one.
            # It says where to look. What is done is decided under the lock, by trials that are read again; what comes
            # up in between is found by the next look.
            trials = self._read()
            last = by_cell(trials).values()
            # Where a commit's answer was lost, a trial may have been written twice: one is enough.
            superseded = {trial.number for trial in trials if CELL in trial.user_attrs} - {one.number for one in last}
            unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
            running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
            died = [trial.number for trial in last if _died(trial)]
            with self.storage.locked(self.spec.name):
                seen = {number: self._one(number) for number in unfinished if number in superseded.union(running)}
                for number, trial in seen.items():
                    if not trial.state.is_finished() and (number in superseded or _lost(trial)):
                        self.storage.rdb.set_trial_state_values(self._id(number), TrialState.FAIL)
                if not self.storage.was_away:
                    fail_stale_trials(self.study)
                now = {number: self._one(number) for number in (*running, *died)}
                for trial in now.values():
                    self._follow_dead(trial)
                here = [number for number in running if seen[number].state == TrialState.RUNNING]
                return [now[number] for number in here if now[number].state == TrialState.FAIL]

        return self.storage.patiently(look)

    def retry_failed(self) -> int:
        """Queue the cells again that failed for good; how many."""
        queued: list[int] = []

        def retry() -> None:
            with self.storage.locked(self.spec.name):
                for trial in by_cell(self._read()).values():
                    if state(trial) == "failed":
                        self._retry(trial, keep=(CELL, RUN))
                        queued.append(trial.number)

        self.storage.patiently(retry)
        return len(set(queued))

    def set_attributes(self, trial: FrozenTrial, **attributes: Any) -> None:
        """Keep attributes of a running trial."""

        def keep() -> None:
            for key, value in attributes.items():
                self.storage.rdb.set_trial_user_attr(self._id(trial.number), key, value)

        self.storage.patiently(keep)

    def heartbeat(self, trial: FrozenTrial) -> bool:
        """A sign of life of a running trial; False once it has ended, or was given to somebody else."""
        from optuna.trial import TrialState

        def beat() -> bool:
            self.storage.rdb.record_heartbeat(self._id(trial.number))
            return bool(self._one(trial.number).state == TrialState.RUNNING)

        return self.storage.patiently(beat)

    def complete(self, trial: FrozenTrial, values: Sequence[float]) -> bool:
        """The trial has its values; False if it was lost to somebody else."""
        if any(math.isnan(value) for value in values):
            return self.fail(trial, "an objective is not a number: training has diverged")
        from optuna.trial import TrialState

        return self._end(trial, TrialState.COMPLETE, list(values))

    def prune(self, trial: FrozenTrial) -> bool:
        """The trial was stopped as unpromising; its last report is its value."""
        from optuna.trial import TrialState

        return self._end(trial, TrialState.PRUNED)

    def fail(self, trial: FrozenTrial, error: str) -> bool:
        """The trial failed by itself: trying again would change nothing."""
        from optuna.trial import TrialState

        return self._end(trial, TrialState.FAIL, attributes={ERROR: error[:1000]})

    def requeue(self, trial: FrozenTrial, *, stopped: bool = True) -> bool:
        """Back into the queue, to go on at its checkpoint: it was stopped on purpose, or (`stopped` false) it died."""
        from optuna.trial import TrialState

        return self._end(trial, TrialState.FAIL, attributes={RETURNED: stopped})

    def _end(
        self,
        trial: FrozenTrial,
        to: optuna.trial.TrialState,
        values: list[float] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> bool:
        from optuna.trial import TrialState

        def tell() -> bool:
            with self.storage.locked(self.spec.name):
                if self._one(trial.number).state == TrialState.RUNNING:
                    for key, value in (attributes or {}).items():
                        self.storage.rdb.set_trial_user_attr(self._id(trial.number), key, value)
                if self.study.tell(trial.number, values, state=to, skip_if_finished=True).state != to:
                    return False
                if to == TrialState.FAIL:
                    self._follow_dead(self._one(trial.number))
                return True

        return self.storage.patiently(tell)

    def _follow_dead(self, trial: FrozenTrial) -> None:
        """Queue a trial again, or give its cell up, if it died and nothing has followed it; read under the lock."""
        from optuna.trial import TrialState, create_trial

        cell = trial.user_attrs.get(CELL)
        if not _died(trial) or cell is None or not self.storage.is_last(self.spec.name, CELL, cell, trial.number):
            return
        deaths, step = deaths_in_a_row(trial, self._one), trial.user_attrs.get(STEP, 0)
        if deaths <= self.retries:
            self._retry(trial, keep=(CELL, STEP, RUN))
            return
        error = f"died {deaths} times in a row at step {step}, without a new checkpoint"
        given_up = create_trial(
            state=TrialState.FAIL,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={key: value for key, value in trial.user_attrs.items() if key in (CELL, STEP, RUN)}
            | {ERROR: error},
            # What Optuna has noted of a cell goes on with it: which one it is, where nothing was chosen yet.
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
        )
        self.study.add_trial(given_up)

    def _retry(self, trial: FrozenTrial, *, keep: Collection[str]) -> None:
        """Let Optuna queue a trial again, with its reports and these of its attributes."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        stale = copy.deepcopy(trial)
        stale.user_attrs = {key: value for key, value in trial.user_attrs.items() if key in keep}
        RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(self.study, stale)

    def _read(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _one(self, number: int) -> FrozenTrial:
        return self.storage.rdb.get_trial(self._id(number))

    @cached_property
    def _study_id(self) -> int:
        return self.storage.rdb.get_study_id_from_name(self.spec.name)

    def _id(self, number: int) -> int:
        return self.storage.rdb.get_trial_id_from_study_id_trial_number(self._study_id, number)


def by_cell(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Each cell's last trial, of trials by number."""
    return {trial.user_attrs[CELL]: trial for trial in trials if CELL in trial.user_attrs}


def deaths_in_a_row(trial: FrozenTrial, read: Callable[[int], FrozenTrial]) -> int:
    """How often a cell has died at the step of its last checkpoint, this trial's end included if it is a death.

    Args:
        trial: the last of its cell.
        read: gives the trial of a number, one of those before it.
    """
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    history = RetryHeartbeatStaleTrialCallback.retry_history(trial)
    count = 0
    for attempt in chain([trial], map(read, reversed(history))):
        ended_otherwise = ERROR in attempt.user_attrs or attempt.user_attrs.get(RETURNED)
        if ended_otherwise or attempt.user_attrs.get(STEP, 0) != trial.user_attrs.get(STEP, 0):
            break
        count += 1
    return count


def _lost(trial: FrozenTrial) -> bool:
    """Whether a trial runs on this machine, but for its process."""
    from optuna.trial import TrialState

    owner = trial.user_attrs.get(PROCESS, {})
    return trial.state == TrialState.RUNNING and process.is_here(owner) and not process.is_alive(owner)


def _died(trial: FrozenTrial) -> bool:
    """Whether a cell's last trial ended without an error of its own: it is to be followed."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def state(trial: FrozenTrial) -> CellState:
    """How a cell stands whose last trial this is: one that died is about to be queued again."""
    from optuna.trial import TrialState

    if trial.state == TrialState.FAIL:
        return "failed" if ERROR in trial.user_attrs else "waiting"
    states: dict[TrialState, CellState] = {
        TrialState.WAITING: "waiting",
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
    }
    return states[trial.state]
