"""extrapo sweep: a grid or a search of trainings, kept in a database, so that nothing of it can be lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from extrapo.cli.flags import HARDWARE, RECORD, TRAINING, Json, Store, StoreFlags
from extrapo.cli.following import following
from extrapo.config import CountOrZero, Devices, Line
from extrapo.errors import UserError
from extrapo.location import redacted

if TYPE_CHECKING:
    from extrapo.sweep.command import Machine
    from extrapo.sweep.summary import Summary
    from extrapo.terminal import Output


def sweep(
    file: Annotated[Path, Parameter(help="The sweep as YAML: name, mode, space, fixed, objective.")],
    /,
    *,
    workers: Annotated[Devices | None, Parameter(help="Trials at a time [one per GPU, or 1].")] = None,
    gpus_per_trial: Annotated[
        Devices | None, Parameter(help="GPUs of each trial [1 where there are any].", group=HARDWARE)
    ] = None,
    storage: Annotated[
        Line | None,
        Parameter(
            help="Database of the study: sqlite:///FILE, or postgresql+psycopg://USER@HOST/DATABASE, with which the "
            "same command runs on any number of machines [sqlite in the root].",
            group=RECORD,
        ),
    ] = None,
    store: Store = StoreFlags(),  # noqa: B008
    retries: Annotated[
        CountOrZero,
        Parameter(help="Deaths in a row without a new checkpoint after which a cell has failed.", group=TRAINING),
    ] = 3,
    retry_failed: Annotated[
        bool, Parameter(help="Queue the cells again that failed.", negative=(), group=TRAINING)
    ] = False,
    dry_run: Annotated[bool, Parameter(help="Print the cells and the estimated cost, and stop.", negative=())] = False,
    summary: Annotated[bool, Parameter(help="Print what came out so far, and stop.", negative=())] = False,
    rerun: Annotated[
        int | None,
        Parameter(help="Train a trial again by its number, beside the sweep, and compare the curves.", group=TRAINING),
    ] = None,
    slurm: Annotated[
        bool,
        Parameter(
            help="Write a job array of --workers workers; submit it where SLURM is.", negative=(), group=HARDWARE
        ),
    ] = False,
    sbatch: Annotated[
        list[str] | None,
        Parameter(
            help="Options of the job array, as in partition=gpu time=12:00:00 cpus-per-task=8.",
            negative=(),
            consume_multiple=(1, None),
            group=HARDWARE,
        ),
    ] = None,
    many: Annotated[
        bool, Parameter(name="--yes", help="Also run a grid of more than 1,000 cells.", negative=())
    ] = False,
    json: Json = False,
) -> int:
    """Run a grid or a search of trainings, one process each; stopped or killed, the same command goes on."""
    asked = {"--dry-run": dry_run, "--summary": summary, "--rerun": rerun is not None, "--slurm": slurm}
    commands = [flag for flag, value in asked.items() if value]
    if len(commands) > 1:
        raise UserError(f"{commands[0]} and {commands[1]} are two commands: give one")
    if sbatch and not slurm:
        raise UserError("--sbatch goes with --slurm")
    from extrapo.sweep.spec import read_spec

    spec = read_spec(file)
    from extrapo.terminal import Output

    output = Output(json=json)
    output.waiting("loading PyTorch and Optuna ...")
    from extrapo.location import Location
    from extrapo.sweep import command
    from extrapo.sweep.summary import summarise

    machine = command.Machine(Location.of(store), storage, workers, gpus_per_trial, retries)
    if summary:
        return show(summarise(command.existing_queue(spec, machine, output.say)), output)
    if rerun is not None:
        from extrapo.sweep.rerun import rerun as train_again

        queue = command.existing_queue(spec, machine, output.say)
        result, same = train_again(queue, rerun, machine.location, output)
        if result.run_id:
            output.curve([point.row() for point in result.points], result.config.seq_len)
            output.say({True: "the same curve, bit for bit", False: "another curve", None: "nothing to compare"}[same])
            output.document({**result.summary(), "trial": rerun, "same": same})
        return 0
    from extrapo.sweep import check
    from extrapo.sweep.dry_run import dry_run as estimate
    from extrapo.sweep.interrupt import Interrupt
    from extrapo.sweep.launch import fork_context
    from extrapo.sweep.progress import COLUMNS, Display, SweepProgress
    from extrapo.terminal.sweep import SweepDisplay

    runs = check.check(spec, many=many)
    check.check_starts(runs, machine.location)
    if slurm:
        output.document(command.submit(spec, task_command(file, machine), machine, sbatch or [], output.say))
        return 0
    check.check_machine(runs)
    slots = machine.slots()
    if dry_run:
        check.prepare_texts(runs, output.say)
        output.document(estimate(spec, runs, slots, output.say))
        return 0
    # What the workers import takes seconds: it begins now, beside the text and the database.
    context, interrupt = fork_context(), Interrupt()

    def display(progress: SweepProgress) -> Display:
        return SweepDisplay(output.console, progress, COLUMNS)

    with interrupt.installed():
        check.prepare_texts(runs, output.say)
        outcome, over = command.run(
            spec, machine, slots, context, output.say, display, Output, interrupt, retry_failed=retry_failed
        )
    show(outcome, output)
    if not over:
        words = ["sweep", str(file), *beside(machine), *(["--yes"] if many else [])]
        output.say(f"stopped; nothing is lost. The same command goes on: {following(words, store)}")
        return 130
    return 1 if outcome.counts.get("failed") else 0


def show(summary: Summary, output: Output) -> int:
    """Print what came out, for people and as a document; returns 0."""
    from extrapo.sweep.report import Sheet, report
    from extrapo.terminal.sweep import sheet

    console = output.wide()
    for part in report(summary):
        if isinstance(part, Sheet):
            console.print(sheet(part.rows, part.numbers))
        else:
            output.say(part)
    output.document(summary.document())
    return 0


def task_command(file: Path, machine: Machine) -> list[str]:
    """What a task of a job array runs: the same sweep, one trial at a time."""
    location, gpus = machine.location, machine.gpus_per_trial
    parts = [sys.executable, "-m", "extrapo", "sweep", str(file.resolve()), "--yes", "--workers", "1"]
    parts += ["--storage", machine.storage] if machine.storage else []
    parts += ["--root", str(location.root)]
    parts += ["--tracking-uri", location.tracking_uri] if location.tracking_uri else []
    parts += ["--gpus-per-trial", str(gpus)] if gpus is not None else []
    return parts


def beside(machine: Machine) -> list[str]:
    """The flags that say how this machine runs the sweep, without passwords."""
    given = {
        "--storage": machine.storage and redacted(machine.storage),
        "--workers": machine.workers,
        "--gpus-per-trial": machine.gpus_per_trial,
    }
    return [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
