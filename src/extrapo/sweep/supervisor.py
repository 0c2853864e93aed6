"""Keeps the slots of a machine busy until the queue is empty. It may die at any moment: the queue is in a database."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from statistics import fmean
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError, refusal
from extrapo.location import Location
from extrapo.sweep import process
from extrapo.sweep.interrupt import Interrupt
from extrapo.sweep.launch import start
from extrapo.sweep.progress import MakeDisplay, SlotProgress, SweepProgress, best_line, outcome_line
from extrapo.sweep.queue import KEEPER, PROCESS, Queue, state
from extrapo.sweep.slots import Slot
from extrapo.sweep.task import Task
from extrapo.sweep.text import format_cell
from extrapo.tracking import RunStore, sweeps

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from extrapo.run.reporter import Reporter

#: Seconds between two looks at the queue (at least so many times what a look takes), and for workers to save and stop.
LOOK, SHARE, STOP = 3.0, 20.0, 60.0
#: Seconds between two looks at what the workers say.
LISTEN = 0.5


@dataclass
class Worker:
    """A trial that this machine runs; `child` is None for one that an earlier supervisor has started."""

    trial: FrozenTrial
    slot: int
    child: ForkServerProcess | None = None
    connection: Connection | None = None
    end: tuple[str, str] | None = None

    @property
    def pid(self) -> int:
        """Its first process, which leads the group of all of them."""
        pid = self.trial.user_attrs[PROCESS]["pid"] if self.child is None else self.child.pid
        assert pid is not None
        return int(pid)

    @property
    def is_over(self) -> bool:
        """Whether its first process has ended."""
        if self.child is not None:
            return not self.child.is_alive()
        return not process.is_alive(self.trial.user_attrs[PROCESS])


@dataclass
class Supervisor:
    """Runs a queue on this machine.

    Args:
        queue: the cells.
        store: where runs are recorded; its experiment is the sweep's.
        location: the same place, as workers are told of it.
        slots: what there is room for.
        display: shows how far the sweep is.
        reporter: makes what takes a trial's progress, in its own process.
        context: starts the workers, see `fork_context`.
        interrupt: hears signals.
    """

    queue: Queue
    store: RunStore
    location: Location
    slots: list[Slot]
    display: InitVar[MakeDisplay]
    reporter: Callable[[], Reporter]
    context: ForkServerContext
    interrupt: Interrupt
    workers: list[Worker] = field(default_factory=list)
    fault: str | None = None

    def __post_init__(self, display: MakeDisplay) -> None:
        self.progress = SweepProgress(self.queue.spec.name, [SlotProgress(slot.device) for slot in self.slots])
        self.screen = display(self.progress)
        self.folder = self.store.root / "sweeps" / self.queue.spec.name

    def run(self) -> bool:
        """Until every cell is done, here or elsewhere; False if a signal stopped it.

        Raises:
            UserError: the disk is full; the study is intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.interrupt.deferred(self._stop), self.screen:
            try:
                self._adopt()
                self._loop()
            except Exception as cause:
                self.fault = refusal(cause)
                if self.fault is None:
                    raise
            finally:
                self._end_all()
        if self.fault is not None:
            raise UserError(f"{self.fault}; the study is kept, and the same command goes on with it")
        return not self.interrupt.requested

    def _loop(self) -> None:
        looked = due = -math.inf
        while not self.interrupt.requested and self.fault is None:
            if self._collect() or time.monotonic() >= due:
                looked = time.monotonic()
                self._reap_dead()
                if not self._fill_slots():
                    return
                # A look at many thousand cells takes a while: it must not become all that this process does.
                due = time.monotonic() + max(LOOK, SHARE * (time.monotonic() - looked))
            self._wait(max(0.0, due - time.monotonic()))

    def _adopt(self) -> None:
        """Count the trials that an earlier supervisor of this machine left running: they have their slots already."""
        taken = 0
        for trial in self.queue.cells().values():
            owner, keeper = trial.user_attrs.get(PROCESS, {}), trial.user_attrs.get(KEEPER, {})
            alone = process.is_here(owner) and process.is_alive(owner) and not process.is_alive(keeper)
            if state(trial) == "running" and alone and taken < len(self.slots):
                self.workers.append(Worker(trial, taken))
                self._occupy(taken, trial)
                taken += 1
                self.screen.say(
                    f"trial {trial.number} ({format_cell(trial.params)}) is still running, and keeps its slot"
                )

    def _reap_dead(self) -> None:
        for trial in self.queue.reap_dead():
            if process.is_here(trial.user_attrs.get(PROCESS, {})):
                process.kill_group(trial.user_attrs[PROCESS], f"{self.queue.spec.name} {trial.number}")
        sweeps.close(self.store, self.queue.spec.name, self.queue.running_cells)
        self._update_progress()

    def _update_progress(self) -> None:
        """How far the sweep is, how well it does, how long it takes."""
        cells = list(self.queue.cells().values())
        self.progress.counts, self.progress.total = Counter(map(state, cells)), len(cells)
        self.progress.best = best_line(self.queue.spec, cells)
        self.progress.seconds_left = self._seconds_left(cells)

    def _fill_slots(self) -> bool:
        """Start a waiting trial in every free slot; whether there is anything left to wait for."""
        for slot in self.slots:
            if self.interrupt.requested or any(worker.slot == slot.number for worker in self.workers):
                continue
            trial = self.queue.claim()
            if trial is None:
                break
            self._start(slot, trial)
        counts = self.queue.counts()
        return bool(self.workers or counts["waiting"] or counts["running"])

    def _start(self, slot: Slot, trial: FrozenTrial) -> None:
        task = Task(
            spec=self.queue.spec.model_dump(mode="json", by_alias=True),
            storage=self.queue.storage.url,
            number=trial.number,
            location=self.location,
            slot=slot,
            log=str(self.folder / f"trial-{trial.number:04d}.log"),
            retries=self.queue.retries,
            reporter=self.reporter,
        )
        self.workers.append(Worker(trial, slot.number, *start(task, self.context)))
        self._occupy(slot.number, trial)

    def _occupy(self, slot: int, trial: FrozenTrial) -> None:
        cell = self.queue.choice(trial)
        self.progress.slots[slot] = SlotProgress(
            self.slots[slot].device, trial.number, format_cell(cell) or "the sampler's choice", since=time.monotonic()
        )

    def _wait(self, seconds: float) -> None:
        """Until a worker says something or ends, or the time is up."""
        ears: list[Any] = [worker.connection for worker in self.workers if worker.connection is not None]
        ears += [worker.child.sentinel for worker in self.workers if worker.child is not None]
        if ears:
            wait(ears, min(seconds, LISTEN))
        else:
            time.sleep(min(seconds, LISTEN))

    def _collect(self) -> bool:
        """Hear what workers say; whether any has ended."""
        for worker in self.workers:
            self._listen(worker)
        over = [worker for worker in self.workers if worker.is_over]
        for worker in over:
            self._listen(worker)
            self.workers.remove(worker)
            self.progress.slots[worker.slot] = SlotProgress(self.slots[worker.slot].device)
            if worker.child is not None:
                # A dead first rank leaves the others waiting for it.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.pid, signal.SIGKILL)
            self._report(worker)
        return bool(over)

    def _listen(self, worker: Worker) -> None:
        with suppress(EOFError, OSError):
            while worker.connection is not None and worker.connection.poll():
                kind, content = worker.connection.recv()
                if kind == "step":
                    self.progress.slots[worker.slot].step, self.progress.slots[worker.slot].steps = content
                else:
                    worker.end = (kind, content)

    def _report(self, worker: Worker) -> None:
        """Say how a trial ended; one that said nothing was killed."""
        kind, why = worker.end or ("killed", "")
        if kind == "killed":
            self.queue.requeue(worker.trial, stopped=False)
        last = self.queue.trial(worker.trial.number)
        if kind == "killed" and state(last) in ("complete", "pruned", "failed"):
            kind = state(last)
        if kind == "machine":
            self.fault = why
        self._update_progress()
        self.screen.ended(outcome_line(self.queue.spec, last, self.queue.choice(last), kind, why))

    def _seconds_left(self, trials: list[FrozenTrial]) -> float | None:
        """Seconds until the end, if what is left takes as long as what is done."""
        took = [
            trial.duration.total_seconds()
            for trial in trials
            if state(trial) == "complete" and trial.duration is not None
        ]
        running = sum(state(trial) == "running" for trial in trials)
        left = sum(state(trial) == "waiting" for trial in trials) + running / 2
        return fmean(took) * left / max(running, len(self.slots)) if took else None

    def _stop(self) -> None:
        self.screen.say("stopping: the trials save where they are (again Ctrl-C: at once)")

    def _end_all(self) -> None:
        """Ask the workers to save and stop, wait for them, and leave neither processes nor running runs behind."""
        try:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP
            while any(not worker.is_over for worker in self.workers) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            self._signal(signal.SIGKILL)
            for worker in self.workers:
                if worker.child is not None:
                    worker.child.join()
            _quietly(self._last_look)

    def _last_look(self) -> None:
        self.queue.reap_dead()
        sweeps.close(self.store, self.queue.spec.name, self.queue.running_cells)

    def _signal(self, number: int) -> None:
        for worker in self.workers:
            if worker.child is None and worker.is_over:
                continue
            try:
                os.killpg(worker.pid, number)
            except ProcessLookupError:
                # So young that it has no group of its own yet, or dead.
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, number)


def _quietly(operation: Callable[[], None]) -> None:
    """On the way out of a failure, the failure is what is told."""
    with suppress(Exception):
        operation()
