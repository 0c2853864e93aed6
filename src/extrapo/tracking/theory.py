"""What theory says of a run, in that run: metrics over the length, tables, pictures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extrapo.location import Location
from extrapo.tracking import tables
from extrapo.tracking.store import RunStore

FOLDER = "theory"
#: What a mean row has besides quantities.
NAMES = ("length", "source", "texts", "inputs", "heads", "near", "queries")


def record_theory(location: Location, run_id: str, document: Mapping[str, Any], pictures: Sequence[Path]) -> bool:
    """Record `theory/NAME` over the length for every measured quantity, the rows as tables, the document, the pictures.

    False where the store has no such run, as of a checkpoint that somebody sent. A second time the tables are new, and
    what is drawn already stays.

    Args:
        location: of the store.
        run_id: the run.
        document: of `run.theory`.
        pictures: files.
    """
    if location.tracking_uri is None and not location.database.is_file():
        return False
    client = RunStore.existing(location).client
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    points: dict[str, dict[int, float]] = {}
    for row in document["rows"]:
        if row["source"] == "measured":
            for name, value in row.items():
                if name not in NAMES and isinstance(value, (int, float)) and math.isfinite(value):
                    points.setdefault(f"{FOLDER}/{name}", {})[int(row["length"])] = float(value)
    try:
        client.get_run(run_id)
        drawn = {key: {point.step for point in client.get_metric_history(run_id, key)} for key in points}
    except MlflowException:
        return False
    now = int(time.time() * 1000)
    metrics = [
        Metric(key, value, now, length)
        for key, values in points.items()
        for length, value in values.items()
        if length not in drawn[key]
    ]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    for name in ("rows", "heads"):
        tables.log(client, run_id, document[name], f"{FOLDER}/{name}.json")
    client.log_text(run_id, json.dumps(tables.finite(document)), f"{FOLDER}/theory.json")
    for picture in pictures:
        client.log_artifact(run_id, str(picture), FOLDER)
    return True
