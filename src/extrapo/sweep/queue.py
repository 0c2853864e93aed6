"""The queue of a study: every cell waits, runs or is done, whoever dies. The database is the only memory.

A cell is a chain of Optuna trials: the first is queued before anything runs, and each one that died is followed by one
that goes on in its place. The last trial of the chain says how the cell stands. All changes of state are made under the
storage's lock, and each looks first, so that doing it twice does no harm; a trial is written only where the one that
it follows is still its cell's last, so that a cell cannot fork. Three rules make up for whatever was lost between two
steps: a missing cell is queued; a running trial without a sign of life has failed; a failed trial that has no error of
its own and no successor gets one.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from extrapo.errors import UserError
from extrapo.sweep import place as places
from extrapo.sweep.plan import Cell, Plan, choices
from extrapo.sweep.storage import Storage
from extrapo.sweep.study import suggest
from extrapo.sweep.trials import CELL, New, Trials

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: Attributes of a trial: where it runs and who started it, the step of its last checkpoint, why it failed.
PLACE, KEEPER, STEP, ERROR = "place", "keeper", "step", "error"
#: Deaths in a row without a new checkpoint, and the step from which they count; whether it was stopped on purpose.
DEATHS, SINCE, RETURNED = "deaths", "since", "returned"
RUN, CURVE, THREADS = "run_id", "curve", "threads"
#: Cells that are queued in one transaction.
PART = 2000

State: TypeAlias = Literal["waiting", "running", "complete", "pruned", "failed"]


class Queue:
    """The cells of a study.

    Args:
        plan: the question.
        study: its study.
        storage: where it is.
        retries: deaths in a row without a new checkpoint after which a cell has failed.
    """

    def __init__(self, plan: Plan, study: optuna.Study, storage: Storage, retries: int = 3) -> None:
        self.plan, self.study, self.storage, self.retries = plan, study, storage, retries
        self._trials = Trials(storage.rdb, study._study_id)

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.storage.patiently(self._trials.all)

    def trial(self, number: int) -> FrozenTrial:
        """The trial of a number, as it stands."""
        return self.storage.patiently(lambda: self._trials.one(number))

    def cells(self) -> dict[int, FrozenTrial]:
        """Each cell's last trial."""
        return by_cell(self.trials())

    def counts(self) -> Counter[str]:
        """How many cells are in each state."""
        return Counter[str](state(trial) for trial in self.cells().values())

    def living(self) -> set[int]:
        """The cells that are running."""
        return {cell for cell, trial in self.cells().items() if state(trial) == "running"}

    def fill(self, told: Callable[[int], None] = lambda done: None) -> int:
        """Queue the cells that are missing; how many there are now.

        Args:
            told: called with the number of cells that are there, part by part.
        """
        from optuna.trial import TrialState, create_trial

        wanted: Sequence[Cell | None]
        wanted = self.plan.cells() if self.plan.mode == "grid" else [None] * self.plan.size
        if not wanted:
            raise UserError("an empty grid: the conditions leave no cell")
        there = self.cells()
        missing = [index for index in range(len(wanted)) if index not in there]
        for part in (missing[first : first + PART] for first in range(0, len(missing), PART)):
            new: list[New] = []
            for index in part:
                fixed = {} if wanted[index] is None else {"fixed_params": wanted[index]}
                waiting = create_trial(state=TrialState.WAITING, system_attrs=fixed, user_attrs={CELL: index})
                new.append((waiting, None))
            self._append(new)
            told(part[-1] + 1)
        return len(wanted)

    def _append(self, new: Sequence[New]) -> int:
        def written() -> int:
            with self.storage.locked(self.plan.name):
                return self._trials.append(new)

        return self.storage.patiently(written) if new else 0

    def claim(self) -> FrozenTrial | None:
        """Take the first waiting trial for this process; None if there is none."""
        from optuna.trial import TrialState

        rdb = self.storage.rdb

        def take() -> FrozenTrial | None:
            with self.storage.locked(self.plan.name):
                for trial in self._trials.all():
                    if trial.state != TrialState.WAITING:
                        continue
                    for key in (PLACE, KEEPER):
                        rdb.set_trial_user_attr(trial._trial_id, key, places.place())
                    # It lives before it runs: a running trial that never gave a sign of life is never found dead.
                    rdb.record_heartbeat(trial._trial_id)
                    if rdb.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                        return rdb.get_trial(trial._trial_id)
            return None

        return self.storage.patiently(take)

    def suggest(self, claimed: FrozenTrial) -> tuple[optuna.Trial, Cell]:
        """Optuna's handle of a claimed trial, and what it is to try: its queued cell, or the choice of the sampler."""
        import optuna

        def choose() -> tuple[optuna.Trial, Cell]:
            if self.plan.mode == "search":
                # Optuna's cache keeps parameters only of trials that it has read.
                self.study.get_trials(deepcopy=False)
                trial = optuna.Trial(self.study, claimed._trial_id)
                return trial, suggest(self.plan, trial)
            cell: Cell = claimed.system_attrs["fixed_params"]
            for key, value in cell.items():
                listed = optuna.distributions.CategoricalDistribution(choices(self.plan.space[key]))
                self.storage.rdb.set_trial_param(claimed._trial_id, key, listed.to_internal_repr(value), listed)
            return optuna.Trial(self.study, claimed._trial_id), cell

        return self.storage.patiently(choose)

    def tend(self) -> list[FrozenTrial]:
        """Find the dead, and queue again what they leave; returns the trials found dead.

        After the storage was away, other machines are left alone for a while: their signs of life are late as well.
        """
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        rdb = self.storage.rdb

        def look() -> list[FrozenTrial]:
            with self.storage.locked(self.plan.name):
                running = [trial for trial in self._trials.all() if trial.state == TrialState.RUNNING]
                for trial in running:
                    where = trial.user_attrs.get(PLACE, {})
                    if not places.is_here(where):
                        continue
                    if places.is_alive(where):
                        rdb.record_heartbeat(trial._trial_id)
                    else:
                        rdb.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                if not self.storage.was_away:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        fail_stale_trials(self.study)
                died = [trial for trial in by_cell(self._trials.all()).values() if _died(trial)]
                self._trials.append([(self._successor(trial), trial.number) for trial in died])
                return [trial for trial in running if rdb.get_trial(trial._trial_id).state == TrialState.FAIL]

        return self.storage.patiently(look)

    def _successor(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial that goes on where another died, in the form of Optuna's own retries; or that gives up."""
        from optuna.trial import TrialState, create_trial

        kept = {CELL, STEP, RUN}
        attributes = {key: value for key, value in trial.user_attrs.items() if key in kept}
        step = trial.user_attrs.get(STEP, 0)
        state, values = TrialState.WAITING, None
        if not trial.user_attrs.get(RETURNED):
            stuck = trial.user_attrs.get(SINCE) == step
            deaths = 1 + (trial.user_attrs.get(DEATHS, 0) if stuck else 0)
            attributes |= {DEATHS: deaths, SINCE: step}
            if deaths > self.retries:
                state = TrialState.FAIL
                attributes[ERROR] = f"died {deaths} times in a row at step {step}, without a new checkpoint"
        history = [*trial.system_attrs.get("retry_history", ()), trial.number]
        return create_trial(
            state=state,
            value=values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attributes,
            system_attrs={"failed_trial": history[0], **trial.system_attrs, "retry_history": history},
            intermediate_values=trial.intermediate_values,
        )

    def retry_failed(self) -> int:
        """Queue the cells again that failed for good; how many."""
        from optuna.trial import TrialState, create_trial

        new: list[New] = []
        for trial in self.cells().values():
            if state(trial) == "failed":
                history = [*trial.system_attrs.get("retry_history", ()), trial.number]
                again = create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={key: value for key, value in trial.user_attrs.items() if key in (CELL, RUN)},
                    system_attrs={"failed_trial": history[0], **trial.system_attrs, "retry_history": history},
                )
                new.append((again, trial.number))
        self._append(new)
        return len(new)

    def note(self, trial: FrozenTrial, **attributes: Any) -> None:
        """Keep attributes of a running trial."""
        for key, value in attributes.items():
            self.storage.patiently(lambda k=key, v=value: self.storage.rdb.set_trial_user_attr(trial._trial_id, k, v))  # type: ignore[misc]

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Whether a running trial has not been given to somebody else; a sign of life while it has not."""
        from optuna.trial import TrialState

        rdb = self.storage.rdb

        def beat() -> bool:
            rdb.record_heartbeat(trial._trial_id)
            return bool(rdb.get_trial(trial._trial_id).state == TrialState.RUNNING)

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

        return self._end(trial, TrialState.FAIL, note={ERROR: error[:1000]})

    def give_back(self, trial: FrozenTrial, *, stopped: bool = True) -> bool:
        """Back into the queue, to go on at its checkpoint: it was stopped on purpose, or (`stopped` false) it died."""
        from optuna.trial import TrialState

        return self._end(trial, TrialState.FAIL, note={RETURNED: stopped})

    def _end(
        self,
        trial: FrozenTrial,
        to: optuna.trial.TrialState,
        values: list[float] | None = None,
        note: dict[str, Any] | None = None,
    ) -> bool:
        from optuna.trial import TrialState

        rdb = self.storage.rdb

        def tell() -> bool:
            with self.storage.locked(self.plan.name):
                now = rdb.get_trial(trial._trial_id)
                if now.state == TrialState.RUNNING:
                    for key, value in (note or {}).items():
                        rdb.set_trial_user_attr(trial._trial_id, key, value)
                    last = now.last_step
                    if to == TrialState.PRUNED and last is not None and len(self.plan.objective) == 1:
                        reported = [now.intermediate_values[last]]
                        rdb.set_trial_state_values(trial._trial_id, to, reported)
                    else:
                        rdb.set_trial_state_values(trial._trial_id, to, values)
                elif now.state != to:
                    return False
                ended = rdb.get_trial(trial._trial_id)
                if _died(ended):
                    self._trials.append([(self._successor(ended), ended.number)])
                return True

        return self.storage.patiently(tell)


def by_cell(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Each cell's last trial, of trials by number."""
    return {trial.user_attrs[CELL]: trial for trial in trials if CELL in trial.user_attrs}


def _died(trial: FrozenTrial) -> bool:
    """Whether a cell's last trial ended without an error of its own: it is to be followed."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def state(trial: FrozenTrial) -> State:
    """How a cell stands whose last trial this is: one that died is about to be queued again."""
    from optuna.trial import TrialState

    if trial.state == TrialState.FAIL:
        return "failed" if ERROR in trial.user_attrs else "waiting"
    states: dict[TrialState, State] = {
        TrialState.WAITING: "waiting",
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
    }
    return states[trial.state]
