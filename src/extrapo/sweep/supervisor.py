"""Keeps the slots of a machine busy until the queue is empty. It may die at any moment: the queue is in a database."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from statistics import fmean
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError, refusal
from extrapo.sweep import place
from extrapo.sweep.interrupt import Interrupt
from extrapo.sweep.plan import shown
from extrapo.sweep.queue import KEEPER, PLACE, Queue, state
from extrapo.sweep.slots import Slot
from extrapo.sweep.summary import best_line, outcome_line
from extrapo.sweep.task import Task, start
from extrapo.terminal import Output
from extrapo.terminal.sweep import SlotView, SweepView, Watch
from extrapo.tracking import RunStore, sweeps

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

#: Seconds between two looks at the queue (at least so many times what a look takes), and for workers to save and stop.
LOOK, SHARE, STOP = 3.0, 20.0, 60.0


@dataclass
class Worker:
    """A trial that this machine runs; `process` is None for one that an earlier supervisor has started."""

    trial: FrozenTrial
    slot: int
    process: ForkServerProcess | None = None
    wire: Connection | None = None
    end: tuple[str, str] | None = None

    @property
    def pid(self) -> int:
        """Its first process, which leads the group of all of them."""
        found = self.trial.user_attrs[PLACE]["pid"] if self.process is None else self.process.pid
        assert found is not None
        return int(found)

    @property
    def is_over(self) -> bool:
        """Whether its first process has ended."""
        if self.process is not None:
            return not self.process.is_alive()
        return not place.is_alive(self.trial.user_attrs[PLACE])


@dataclass
class Supervisor:
    """Runs a queue on this machine.

    Args:
        queue: the cells.
        store: where runs are recorded; its experiment is the sweep's.
        tracking_uri: as the user gave it.
        slots: what there is room for.
        output: where people read.
        context: starts the workers, see `forks`.
        interrupt: hears signals.
    """

    queue: Queue
    store: RunStore
    tracking_uri: str | None
    slots: list[Slot]
    output: Output
    context: ForkServerContext
    interrupt: Interrupt
    workers: list[Worker] = field(default_factory=list)
    fault: str | None = None

    def __post_init__(self) -> None:
        self.view = SweepView(self.queue.plan.name, [SlotView(slot.device) for slot in self.slots])
        self.watch = Watch(self.output.console, self.view)
        self.folder = self.store.root / "sweeps" / self.queue.plan.name

    def run(self) -> bool:
        """Until every cell is done, here or elsewhere; False if a signal stopped it.

        Raises:
            UserError: the disk is full; the study is intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.interrupt.noted(self._stop), self.watch:
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
        return not self.interrupt.asked

    def _loop(self) -> None:
        looked = due = -math.inf
        while not self.interrupt.asked and self.fault is None:
            if self._collect() or time.monotonic() >= due:
                looked = time.monotonic()
                self._tend()
                if not self._fill():
                    return
                # A look at many thousand cells takes a while: it must not become all that this process does.
                due = time.monotonic() + max(LOOK, SHARE * (time.monotonic() - looked))
            self._wait(max(0.0, due - time.monotonic()))

    def _adopt(self) -> None:
        """Count the trials that an earlier supervisor of this machine left running: they have their slots already."""
        taken = 0
        for trial in self.queue.cells().values():
            where, keeper = trial.user_attrs.get(PLACE, {}), trial.user_attrs.get(KEEPER, {})
            alone = place.is_here(where) and place.is_alive(where) and not place.is_alive(keeper)
            if state(trial) == "running" and alone and taken < len(self.slots):
                self.workers.append(Worker(trial, taken))
                self._show(taken, trial)
                taken += 1
                self.watch.say(f"trial {trial.number} ({shown(trial.params)}) is still running, and keeps its slot")

    def _tend(self) -> None:
        for trial in self.queue.tend():
            if place.is_here(trial.user_attrs.get(PLACE, {})):
                place.end_what_is_left(trial.user_attrs[PLACE], f"{self.queue.plan.name} {trial.number}")
        sweeps.close(self.store, self.queue.plan.name, self.queue.living)
        self._see()

    def _see(self) -> None:
        """How far the sweep is, how well it does, how long it takes."""
        cells = list(self.queue.cells().values())
        self.view.counts, self.view.total = Counter(map(state, cells)), len(cells)
        self.view.best = best_line(self.queue.plan, cells)
        self.view.seconds_left = self._left(cells)

    def _fill(self) -> bool:
        """Start a waiting trial in every free slot; whether there is anything left to wait for."""
        for slot in self.slots:
            if self.interrupt.asked or any(worker.slot == slot.number for worker in self.workers):
                continue
            trial = self.queue.claim()
            if trial is None:
                break
            self._start(slot, trial)
        counts = self.queue.counts()
        return bool(self.workers or counts["waiting"] or counts["running"])

    def _start(self, slot: Slot, trial: FrozenTrial) -> None:
        task = Task(
            plan=self.queue.plan.model_dump(mode="json", by_alias=True),
            storage=self.queue.storage.url,
            number=trial.number,
            root=str(self.store.root),
            tracking_uri=self.tracking_uri,
            slot=slot,
            log=str(self.folder / f"trial-{trial.number:04d}.log"),
            retries=self.queue.retries,
        )
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=start, args=(task, theirs), name=f"trial {trial.number}")
        process.start()
        theirs.close()
        self.workers.append(Worker(trial, slot.number, process, ours))
        self._show(slot.number, trial)

    def _show(self, slot: int, trial: FrozenTrial) -> None:
        cell = trial.params or trial.system_attrs.get("fixed_params", {})
        self.view.slots[slot] = SlotView(
            self.slots[slot].device, trial.number, shown(cell) or "the sampler's choice", since=time.monotonic()
        )

    def _wait(self, seconds: float) -> None:
        """Until a worker says something or ends, or the time is up."""
        ears: list[Any] = [worker.wire for worker in self.workers if worker.wire is not None]
        ears += [worker.process.sentinel for worker in self.workers if worker.process is not None]
        if ears:
            wait(ears, min(seconds, 0.5 if self.output.console.is_terminal else seconds))
        else:
            time.sleep(min(seconds, 0.5))

    def _collect(self) -> bool:
        """Hear what workers say; whether any has ended."""
        for worker in self.workers:
            self._hear(worker)
        over = [worker for worker in self.workers if worker.is_over]
        for worker in over:
            self._hear(worker)
            self.workers.remove(worker)
            self.view.slots[worker.slot] = SlotView(self.slots[worker.slot].device)
            if worker.process is not None:
                # A dead first rank leaves the others waiting for it.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.pid, signal.SIGKILL)
            self._report(worker)
        return bool(over)

    def _hear(self, worker: Worker) -> None:
        with suppress(EOFError, OSError):
            while worker.wire is not None and worker.wire.poll():
                kind, content = worker.wire.recv()
                if kind == "step":
                    self.view.slots[worker.slot].step, self.view.slots[worker.slot].steps = content
                else:
                    worker.end = (kind, content)

    def _report(self, worker: Worker) -> None:
        """Say how a trial ended; one that said nothing was killed."""
        kind, why = worker.end or ("killed", "")
        if kind == "killed":
            self.queue.give_back(worker.trial, stopped=False)
        last = self.queue.trial(worker.trial.number)
        if kind == "killed" and state(last) in ("complete", "pruned", "failed"):
            kind = state(last)
        if kind == "machine":
            self.fault = why
        self._see()
        self.watch.ended(outcome_line(self.queue.plan, last, kind, why))

    def _left(self, trials: list[FrozenTrial]) -> float | None:
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
        self.watch.say("stopping: the trials save where they are (again Ctrl-C: at once)")

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
                if worker.process is not None:
                    worker.process.join()
            _quietly(self._last_look)

    def _last_look(self) -> None:
        self.queue.tend()
        sweeps.close(self.store, self.queue.plan.name, self.queue.living)

    def _signal(self, number: int) -> None:
        for worker in self.workers:
            if worker.process is None and worker.is_over:
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
