"""Curves of a run that were measured after its training: another text, protocol or encoding, beside the run's own.

Each has a name of its own, `measured/NAME/ppl` and `/nll` over length, and a document `curves/measured/NAME.json`, of
which the run's folder has a copy. The run's own curve, its table and its scores stay what they were.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo.errors import MachineError, UserError
from extrapo.files import write_text
from extrapo.location import Location
from extrapo.tracking.curves import CEILING
from extrapo.tracking.fetching import fetched
from extrapo.tracking.sound import checked_measured, numbers_of, read_of
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: In the run's folder.
FOLDER = "measured"
#: Among its artifacts.
ARTIFACTS = "curves/measured"


def record_measured(location: Location, folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """Record a curve, or more lengths of one that is there: a row of a length that was measured before is replaced.

    Args:
        location: where the run is recorded.
        folder: of the run; its name is the run's id.
        name: the same for the same quantity alone.
        document: what was measured: `rows`, one per length, `blocks` by length, and what they are of.

    Raises:
        UserError: there is no such record, or no such run in it.
        MachineError: it cannot be written.
    """
    store = RunStore.existing(location)
    if not store.is_writable:
        raise MachineError(f"{location.root} cannot be written")
    from mlflow.exceptions import MlflowException

    run_id = folder.name
    try:
        store.client.get_run(run_id)
    except MlflowException as cause:
        raise UserError(f"there is no run {run_id[:8]} in {location.root}") from cause
    whole = merged(read_measured(folder).get(name), document)
    path = write_text(folder / FOLDER / f"{name}.json", json.dumps(whole, indent=1, allow_nan=True))
    store.client.log_artifact(run_id, str(path), ARTIFACTS)
    _scalars(store.client, run_id, name, whole)


def merged(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """One document of two on the same quantity, by length."""
    if before is None:
        return dict(now)
    rows = {row["length"]: row for row in (*before["rows"], *now["rows"])}
    blocks = {**before["blocks"], **{str(length): of_length for length, of_length in now["blocks"].items()}}
    return {**now, "rows": [rows[length] for length in sorted(rows)], "blocks": blocks}


def read_measured(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents in a run's folder, by name."""
    with read_of(folder.name, "curve that was measured later"):
        return {path.stem: checked_measured(numbers_of(path)) for path in sorted((folder / FOLDER).glob("*.json"))}


def recorded_measured(client: MlflowClient, run_id: str) -> dict[str, dict[str, Any]]:
    """The documents among a run's artifacts, by name."""
    found = {}
    for artifact in client.list_artifacts(run_id, ARTIFACTS):
        with fetched(client, run_id, artifact.path) as file:
            found[file.stem] = checked_measured(numbers_of(file))
    return found


def _scalars(client: MlflowClient, run_id: str, name: str, document: Mapping[str, Any]) -> None:
    """Never twice at one length, which MLflow would draw as a zig-zag: the name stands for one quantity."""
    from mlflow.entities import Metric

    drawn = {point.step for point in client.get_metric_history(run_id, f"measured/{name}/nll")}
    now = int(time.time() * 1000)
    metrics = [
        Metric(f"measured/{name}/{key}", min(float(row[key]), CEILING), now, int(row["length"]))
        for row in document["rows"]
        for key in ("nll", "ppl")
        if row["nll"] is not None and row["length"] not in drawn
    ]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
