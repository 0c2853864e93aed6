"""What a probe found, in the run that it was put to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extrapo.evaluation.probes.result import variant_of
from extrapo.location import Location
from extrapo.tracking.store import RunStore


def record_probe(location: Location, run_id: str, task: str, rows: Sequence[Mapping[str, Any]], picture: Path) -> bool:
    """Record accuracy over length as `probe/TASK`, or `probe/TASK/VARIANT` where there are some, the rows and the
    picture; False where the store has no such run, as of a checkpoint that somebody sent. A second time the rows are
    new, and what is drawn already stays.

    Args:
        location: of the store.
        run_id: the run.
        task: the probe's name.
        rows: of `evaluation.probes.Result.row`.
        picture: by length and place.
    """
    if location.tracking_uri is None and not location.database.is_file():
        return False
    client = RunStore.existing(location).client
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    values = [
        (f"{metric_name(task, row)}{suffix}", row[measure], row["length"])
        for row in rows
        for measure, suffix in (("accuracy", ""), ("perplexity", "/perplexity"), ("nll", "/nll"))
        if row.get(measure) is not None
    ]
    try:
        client.get_run(run_id)
        drawn = {
            (name, point.step)
            for name in {name for name, _, _ in values}
            for point in client.get_metric_history(run_id, name)
        }
    except MlflowException:
        return False
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for name, value, step in values if (name, step) not in drawn]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
    client.log_text(run_id, json.dumps({"task": task, "results": list(rows)}), f"probes/{task}.json")
    client.log_artifact(run_id, str(picture), "probes")
    return True


def metric_name(task: str, row: Mapping[str, Any]) -> str:
    """`probe/passkey`, `probe/recall/keys-10`, `probe/hellaswag/acc_norm`, `probe/story-recall/65-128`."""
    variant = (value if isinstance(value, str) else f"{name}-{value}" for name, value in variant_of(row).items())
    return "/".join(["probe", task, *variant])
