"""extrapo sweep: a grid or a search of trainings, kept in a database, so that nothing of it can be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from extrapo.errors import UserError


def sweep(
    file: Annotated[Path, Parameter(help="The sweep as YAML: name, mode, space, fixed, objective.")],
    /,
    *,
    workers: Annotated[int | None, Parameter(help="Trials at a time [one per GPU, or 1].")] = None,
    gpus_per_trial: Annotated[int | None, Parameter(help="GPUs of each trial [1 where there are any].")] = None,
    storage: Annotated[
        str | None,
        Parameter(
            help="Database of the study: sqlite:///FILE, or postgresql+psycopg://USER@HOST/DATABASE, with which the "
            "same command runs on any number of machines [sqlite in the root]."
        ),
    ] = None,
    root: Annotated[str, Parameter(help="Folder of all runs.")] = "runs",
    tracking_uri: Annotated[str | None, Parameter(help="MLflow server or database [sqlite in the root].")] = None,
    retries: Annotated[
        int, Parameter(help="Deaths in a row without a new checkpoint after which a cell has failed.")
    ] = 3,
    retry_failed: Annotated[bool, Parameter(help="Queue the cells again that failed.", negative=())] = False,
    dry_run: Annotated[bool, Parameter(help="Print the cells and the estimated cost, and stop.", negative=())] = False,
    summary: Annotated[bool, Parameter(help="Print what came out so far, and stop.", negative=())] = False,
    rerun: Annotated[
        int | None, Parameter(help="Train a trial again by its number, beside the sweep, and compare the curves.")
    ] = None,
    slurm: Annotated[
        bool, Parameter(help="Write a job array of --workers workers; submit it if submitit is there.", negative=())
    ] = False,
    sbatch: Annotated[
        list[str] | None,
        Parameter(
            help="Options of the job array, as in partition=gpu time=12:00:00 cpus-per-task=8.",
            negative=(),
            consume_multiple=True,
        ),
    ] = None,
    yes: Annotated[bool, Parameter(help="Also run a grid of more than 1,000 cells.", negative=())] = False,
    json: Annotated[
        bool, Parameter(help="One JSON document on stdout, everything else on stderr.", negative=())
    ] = False,
) -> int:
    """Run a grid or a search of trainings, one process each; stopped or killed, the same command goes on."""
    asked = {"--dry-run": dry_run, "--summary": summary, "--rerun": rerun is not None, "--slurm": slurm}
    given = [flag for flag, value in asked.items() if value]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} are two commands: give one")
    if sbatch and not slurm:
        raise UserError("--sbatch goes with --slurm")
    from extrapo.sweep.plan import read

    plan = read(file)
    from extrapo.terminal import Output

    output = Output(json=json)
    output.waiting("loading PyTorch and Optuna ...")
    from extrapo.sweep import command
    from extrapo.sweep.report import show
    from extrapo.sweep.summary import summarise

    machine = command.Machine(Path(root), tracking_uri, storage, workers, gpus_per_trial, retries)
    if summary:
        queue = command.open_queue(plan, machine, output.say, new=False)
        found = summarise(queue)
        show(found, output)
        output.document(found.document())
        return 0
    if rerun is not None:
        from extrapo.sweep.rerun import rerun as train_again

        queue = command.open_queue(plan, machine, output.say, new=False)
        result, same = train_again(queue, rerun, machine.root, tracking_uri, output)
        if result.run_id:
            output.curve([point.row() for point in result.points], result.config.seq_len)
            output.say({True: "the same curve, bit for bit", False: "another curve", None: "nothing to compare"}[same])
            output.document({**result.summary(), "trial": rerun, "same": same})
        return 0
    from extrapo.sweep.check import check, price, texts
    from extrapo.sweep.interrupt import Interrupt
    from extrapo.sweep.task import forks

    runs = check(plan, yes)
    if slurm:
        command.array(plan, file, machine, sbatch or [], output)
        return 0
    places = command.places_of(machine)
    if dry_run:
        price(plan, runs, places, output)
        return 0
    # What the workers import takes seconds: it begins now, beside the text and the database.
    context, interrupt = forks(), Interrupt()
    with interrupt.heard():
        texts(runs, output.say)
        found, over = command.run(plan, machine, places, context, output, interrupt, retry_failed=retry_failed)
    show(found, output)
    output.document(found.document())
    if not over:
        output.say(f"stopped; nothing is lost. The same command goes on: extrapo sweep {file}")
        return 130
    return 1 if found.counts.get("failed") else 0
