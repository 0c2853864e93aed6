"""What is done with a sweep: open its queue, run it here, or hand it to SLURM."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import TYPE_CHECKING, Any, TypeAlias

from extrapo.errors import UserError
from extrapo.files import write_text
from extrapo.location import Location, sqlite_file
from extrapo.sweep import slurm
from extrapo.sweep.interrupt import Interrupt
from extrapo.sweep.progress import MakeDisplay
from extrapo.sweep.queue import Queue
from extrapo.sweep.report import record
from extrapo.sweep.slots import Slot, divide, visible_gpus
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import DATABASE, full_address, open_storage
from extrapo.sweep.study import create_study, load_study
from extrapo.sweep.summary import Summary, summarise
from extrapo.sweep.supervisor import Supervisor
from extrapo.tracking import RunStore
from extrapo.words import counted

if TYPE_CHECKING:
    from extrapo.run.reporter import Reporter

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Machine:
    """Where and how a sweep runs: what is said beside its file.

    Args:
        location: where runs are recorded.
        storage: address of the study's database; None for SQLite in the root.
        workers, gpus_per_trial: see `divide`.
        retries: see Queue.

    Raises:
        UserError: another kind of address.
    """

    location: Location
    storage: str | None = None
    workers: int | None = None
    gpus_per_trial: int | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        if self.storage is not None:
            full_address(self.storage)

    def slots(self) -> list[Slot]:
        """The slots of this machine."""
        return divide(self.workers, self.gpus_per_trial, visible_gpus())


def existing_queue(spec: SweepSpec, machine: Machine, say: Say) -> Queue:
    """The queue of a sweep that has been started.

    Raises:
        UserError: it has not.
    """
    root = machine.location.root
    file = root / DATABASE if machine.storage is None else sqlite_file(machine.storage)
    if file is not None and not file.is_file():
        where, name = (root, "root") if machine.storage is None else (file, "storage")
        raise UserError(f"no sweep in {where}: it has not been started, or say where it is with `{name}`")
    storage = open_storage(machine.storage, root, say)
    return Queue(spec, load_study(spec, storage), storage, machine.retries)


def filled_queue(spec: SweepSpec, machine: Machine, say: Say, check: Callable[[], None] = lambda: None) -> Queue:
    """The queue of a sweep, created if this is the first time, with all of its cells.

    Args:
        spec: the sweep.
        machine: where.
        say: told how far it is.
        check: called after every part; may raise.
    """
    storage = open_storage(machine.storage, machine.location.root, say)

    def created() -> Queue:
        with storage.locked(spec.name):
            return Queue(spec, create_study(spec, storage), storage, machine.retries)

    queue = storage.patiently(created)
    began = time.monotonic()

    def report(done: int) -> None:
        check()
        if time.monotonic() - began > 2.0:
            say(f"{done:,} of {spec.size:,} cells queued")

    queue.enqueue_missing(report)
    return queue


def run(
    spec: SweepSpec,
    machine: Machine,
    slots: list[Slot],
    context: ForkServerContext,
    say: Say,
    display: MakeDisplay,
    reporter: Callable[[], Reporter],
    interrupt: Interrupt,
    *,
    retry_failed: bool = False,
) -> tuple[Summary, bool]:
    """Run a sweep on this machine, or go on with it; what came out, and whether it is over.

    Args:
        spec, machine, slots: the sweep, where, and in which slots.
        context: see `fork_context`.
        say: told what is going on before and after the trials.
        display: shows the trials.
        reporter: makes what takes a trial's progress, in its own process.
        interrupt: hears signals.
        retry_failed: queue the cells again that failed.
    """
    store = RunStore.open(machine.location, spec.name)
    queue = filled_queue(spec, machine, say, interrupt.check)
    if retry_failed:
        say(f"{queue.retry_failed()} failed cells are queued again")
    counts = queue.counts()
    what = "cells" if spec.mode == "grid" else "trials"
    say(
        f"sweep {spec.name}: {sum(counts.values()):,} {what} ({counts['waiting']} waiting, "
        f"{counts['complete'] + counts['pruned'] + counts['failed']} done), "
        f"{counted(len(slots), 'slot')} ({slots[0].device}), logs in {store.root / 'sweeps' / spec.name}"
    )
    over = Supervisor(queue, store, machine.location, slots, display, reporter, context, interrupt).run()
    summary = summarise(queue)
    if over:
        # Of several supervisors that end at once, one after the other: the sweep's own run is created once.
        with queue.storage.locked(spec.name):
            record(summary, store)
    return summary, over


def submit(
    spec: SweepSpec, task: Sequence[str], machine: Machine, sbatch: Sequence[str], say: Say
) -> Mapping[str, Any]:
    """Write a sweep as a job array, and submit it where SLURM is; the script and the job as a document.

    Args:
        spec: the sweep.
        task: the command that each task of the array runs: this sweep, one slot.
        machine: where; as many tasks as `workers`.
        sbatch: further options of sbatch, each as KEY=VALUE.
        say: told what has been done.

    Raises:
        UserError: a storage that machines cannot share, or a wrong option of sbatch.
        MachineError: SLURM refuses the script.
    """
    slurm.check_storage(machine.storage)
    options = slurm.parse_options(sbatch)
    folder = machine.location.root / "sweeps" / spec.name
    text = slurm.script(spec.name, task, machine.workers or 1, machine.gpus_per_trial or 0, folder, options)
    path = write_text(folder / f"{spec.name}.sbatch", text)
    path.chmod(0o700)
    job = slurm.submit(path)
    say(f"written: {path}\nstart it with: sbatch {path}" if job is None else f"submitted as job {job}: {path}")
    return {"study": spec.name, "script": str(path), "jobs": None if job is None else [job]}
