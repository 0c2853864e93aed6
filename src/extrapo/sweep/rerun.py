"""A trial again, by its number: the same settings, the same threads, hence on a CPU the same curve bit for bit."""

from __future__ import annotations

from typing import Any

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import Result, fit
from extrapo.run.reporter import Reporter
from extrapo.sweep.queue import CELL, CURVE, THREADS, Queue, by_cell
from extrapo.tracking import sweeps
from extrapo.words import counted


def rerun(queue: Queue, number: int, location: Location, reporter: Reporter) -> tuple[Result, bool | None]:
    """Train the cell of a trial once more, as a run of its own beside the sweep.

    Returns:
        The result, and whether its curve equals the trial's in every digit (None if the trial has none).

    Raises:
        UserError: no such trial, or one that has not chosen its settings yet.
    """
    import torch

    trials = queue.trials()
    if not 0 <= number < len(trials):
        raise UserError(f"the study '{queue.spec.name}' has no trial {number}; it has {len(trials)}, from 0")
    trial = trials[number]
    if not trial.params:
        raise UserError(f"trial {number} is {trial.state.name.lower()}: it has not started")
    last = by_cell(trials)[trial.user_attrs[CELL]]
    if last.number != number:
        reporter.say(f"trial {number} has ended before its time; trial {last.number} has gone on with it")
        trial = last
    threads = trial.user_attrs.get(THREADS)
    if threads is not None:
        torch.set_num_threads(threads)
        reporter.say(f"trial {trial.number} again, with {counted(threads, 'thread')}")
    config = queue.spec.settings(trial.params).model_copy(
        update={
            "root": str(location.root),
            "tracking_uri": location.tracking_uri,
            "experiment": queue.spec.name,
        }
    )
    result = fit(config, reporter, tags={"extrapo.rerun_of": f"{queue.spec.name} {number}", sweeps.TRIAL: str(number)})
    recorded: list[dict[str, Any]] | None = trial.user_attrs.get(CURVE)
    if recorded is None or not result.points:
        return result, None
    measured = {point.length: point.nll for point in result.points}
    return result, all(measured[row["length"]] == row["nll"] for row in recorded)
