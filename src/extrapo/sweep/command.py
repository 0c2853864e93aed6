"""What `extrapo sweep` does with a plan: open its queue, run it here, or write it as a job array."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.sweep import slurm
from extrapo.sweep.interrupt import Interrupt
from extrapo.sweep.plan import Plan
from extrapo.sweep.queue import Queue
from extrapo.sweep.report import record
from extrapo.sweep.slots import Slot, slots, visible_gpus
from extrapo.sweep.storage import open_storage
from extrapo.sweep.study import create, load
from extrapo.sweep.summary import Summary, summarise
from extrapo.sweep.supervisor import Supervisor
from extrapo.terminal import Output
from extrapo.tracking import RunStore


@dataclass(frozen=True)
class Machine:
    """Where and how a sweep runs: what the command line says beside the file.

    Args:
        root, tracking_uri: where runs are recorded.
        storage: address of the study's database; None for SQLite in the root.
        workers, gpus_per_trial: see `slots`.
        retries: see Queue.
    """

    root: Path
    tracking_uri: str | None
    storage: str | None
    workers: int | None
    gpus_per_trial: int | None
    retries: int


def places_of(machine: Machine) -> list[Slot]:
    """The slots of this machine."""
    return slots(machine.workers, machine.gpus_per_trial, visible_gpus())


def open_queue(
    plan: Plan, machine: Machine, say: Callable[[str], None], *, new: bool, check: Callable[[], None] = lambda: None
) -> Queue:
    """The queue of the plan's study; `new` creates and fills it, and calls `check` part by part."""
    if not new and machine.storage is None and not (machine.root / "sweeps.db").is_file():
        raise UserError(f"no sweep in {machine.root}: it has not been started, or name its folder with `root`")
    storage = open_storage(machine.storage, machine.root, say)
    if not new:
        return Queue(plan, load(plan, storage), storage, machine.retries)

    def created() -> Queue:
        with storage.locked(plan.name):
            return Queue(plan, create(plan, storage), storage, machine.retries)

    queue = storage.patiently(created)
    began = time.monotonic()

    def told(done: int) -> None:
        check()
        if time.monotonic() - began > 2.0:
            say(f"{done:,} of {plan.size:,} cells queued")

    queue.fill(told)
    return queue


def run(
    plan: Plan,
    machine: Machine,
    places: list[Slot],
    context: ForkServerContext,
    output: Output,
    interrupt: Interrupt,
    *,
    retry_failed: bool = False,
) -> tuple[Summary, bool]:
    """Run a sweep on this machine, or go on with it; what came out, and whether it is over."""
    store = RunStore.open(Location(machine.root, machine.tracking_uri), plan.name)
    queue = open_queue(plan, machine, output.say, new=True, check=interrupt.check)
    if retry_failed:
        output.say(f"{queue.retry_failed()} failed cells are queued again")
    counts = queue.counts()
    what = "cells" if plan.mode == "grid" else "trials"
    output.say(
        f"sweep {plan.name}: {sum(counts.values()):,} {what} ({counts['waiting']} waiting, "
        f"{counts['complete'] + counts['pruned'] + counts['failed']} done), {len(places)} "
        f"slot{'s' if len(places) > 1 else ''} ({places[0].device}), logs in {store.root / 'sweeps' / plan.name}"
    )
    over = Supervisor(queue, store, machine.tracking_uri, places, output, context, interrupt).run()
    summary = summarise(queue)
    if over:
        # Of several supervisors that end at once, one after the other: the sweep's own run is created once.
        with queue.storage.locked(plan.name):
            record(summary, store)
    return summary, over


def array(plan: Plan, file: Path, machine: Machine, sbatch: Sequence[str], output: Output) -> None:
    """Write the job array of a sweep, and submit it where submitit and SLURM are there."""
    gpus = machine.gpus_per_trial or 0
    command = slurm.command(
        file, machine.storage or "sqlite", machine.root, machine.tracking_uri, machine.gpus_per_trial
    )
    more = slurm.options(sbatch)
    folder = machine.root.resolve() / "sweeps" / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    workers = machine.workers or 1
    path = folder / f"{plan.name}.sbatch"
    path.write_text(slurm.script(plan.name, command, workers, gpus, folder, more), encoding="utf-8")
    path.chmod(0o700)
    jobs = slurm.submit(plan.name, command, workers, gpus, folder, more)
    if jobs is None:
        output.say(f"written: {path}\nstart it with: sbatch {path}")
    else:
        output.say(f"submitted through submitit: {', '.join(jobs)} (the same as a script: {path})")
    output.document({"study": plan.name, "script": str(path), "jobs": jobs})
