"""The runs of a sweep in MLflow: flat, tagged with the sweep and their trial; none is left running by the dead."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo.tracking import tables, views
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from mlflow.entities import Run

SWEEP, TRIAL, CELL = "extrapo.sweep", "extrapo.trial", "extrapo.cell"
#: The run that holds what the sweep came to.
SUMMARY = "extrapo.sweep_summary"


def tags(sweep: str, trial: int, cell: int) -> dict[str, str]:
    """What marks a run as a trial of a sweep."""
    return {SWEEP: sweep, TRIAL: str(trial), CELL: str(cell)}


def run_of(store: RunStore, sweep: str, cell: int) -> str | None:
    """The newest run of a cell that got as far as its tokenizer, so that it can be continued."""
    ids = (str(run.info.run_id) for run in _search(store, {SWEEP: sweep, CELL: str(cell)}))
    return next((run_id for run_id in ids if (store.location.folder(run_id) / "tokenizer.json").is_file()), None)


def close(store: RunStore, sweep: str, living: Callable[[], Collection[int]]) -> None:
    """End the runs that are marked as running and whose cell is not among the living.

    The living are asked for after the runs: a run that is there by then belongs to a trial that runs by then.
    """
    running = list(_search(store, {SWEEP: sweep}, "attributes.status = 'RUNNING'"))
    alive = living() if running else ()
    for run in running:
        # A trial that ended in between has ended its run first: looked at again, that run is no longer running.
        gone = int(run.data.tags.get(CELL, -1)) not in alive
        if gone and store.client.get_run(run.info.run_id).info.status == "RUNNING":
            store.client.set_terminated(run.info.run_id, "KILLED")


def summary_run(store: RunStore, sweep: str) -> str:
    """The id of the sweep's own run, created the first time."""
    summary = next(_search(store, {SUMMARY: sweep}), None)
    if summary is not None:
        return str(summary.info.run_id)
    run = store.client.create_run(
        store.experiment_id, run_name=f"{sweep}: summary", tags={SUMMARY: sweep, "mlflow.source.name": "extrapo"}
    )
    store.client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def record_summary(
    store: RunStore,
    sweep: str,
    document: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[Path],
) -> str:
    """Keep what a sweep came to in a run of its own: document, table, pictures; returns the run's id."""
    run_id = summary_run(store, sweep)
    # Where runs are grouped by their cell, a run without one is called unassigned.
    store.client.set_tag(run_id, views.CELL, f"{sweep}: summary")
    store.client.log_text(run_id, json.dumps(document, indent=2, default=str), "summary.json")
    store.client.log_text(run_id, tables.csv_text(rows), "table.csv")
    for picture in pictures:
        store.client.log_artifact(run_id, str(picture))
    return run_id


def _search(store: RunStore, marks: Mapping[str, str], *conditions: str) -> Iterator[Run]:
    """Runs of the store's experiment by their tags, newest first."""
    wanted = " and ".join([*(f"tags.`{key}` = '{value}'" for key, value in marks.items()), *conditions])
    token: str | None = None
    while True:
        page = store.client.search_runs(
            [store.experiment_id], wanted, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
