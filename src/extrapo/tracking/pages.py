"""What `extrapo ui` sees to before it opens the pages: views and cells up to date, also those of older runs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from extrapo.config.cell import cell_name
from extrapo.reading import read_yaml
from extrapo.tracking import cells, curves, views
from extrapo.tracking.fetching import fetched
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)


def bring_up_to_date(store: RunStore, experiment_id: str) -> str | None:
    """Fit the views of an experiment and its cells to its runs; best effort, for the runs can be read without.

    Returns:
        The id of the experiment of its cells; None where they could not be written.
    """
    if not store.is_writable:
        return None
    try:
        # To read all runs takes most of the time.
        runs = store.runs_of(experiment_id)
        old = [run for run in runs if "extrapo.encoding" in run.data.tags and views.CELL not in run.data.tags]
        for run in old:
            _complete(store, run)
        runs = store.runs_of(experiment_id) if old else runs
        views.fit(store.client, experiment_id, runs)
        return cells.fit(store, experiment_id, runs)
    except Exception:
        log.warning("the saved views could not be brought up to date", exc_info=True)
        return None


def _complete(store: RunStore, run: Run) -> None:
    """Give a run that was recorded before there were cells its own, and its curve over T."""
    from mlflow.entities import Metric

    run_id, client = run.info.run_id, store.client
    train_length = run.data.tags.get("extrapo.train_length")
    if train_length is not None and curves.DOUBLINGS not in run.data.metrics:
        history = client.get_metric_history(run_id, "extrapolation/ppl")
        values = curves.over_train_length({point.step: point.value for point in history}, int(train_length))
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(key, value, now, length) for key, value, length in values])
    with fetched(client, run_id, "config.yaml") as file:
        config = read_yaml(file)
    client.set_tag(run_id, views.CELL, cell_name(config))
    views.refresh(client, run_id)
