"""The runs in a SQLite database by its rows: what MLflow's client says of them, a tenth of its time, and without the
seconds that it takes to load.

Where the database is of another MLflow than the one that is installed, or cannot be read, it is MLflow that is asked.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError
from extrapo.tracking.schema import is_newest

if TYPE_CHECKING:
    from mlflow.entities import Run

#: The tag of every run that `extrapo` recorded.
ENCODING = "extrapo.encoding"
#: Seconds that another program may hold the database.
PATIENCE = 1.0
RUNS = """
SELECT runs.run_uuid, coalesce(nullif(runs.name, ''), named.value, ''), status,
runs.experiment_id, experiments.name, start_time, artifact_uri
FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id
LEFT JOIN tags AS named ON named.run_uuid = runs.run_uuid AND named.key = 'mlflow.runName'
WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
AND EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = :tag AND value IS NOT NULL)
AND (:experiment IS NULL OR experiments.name = :experiment)
AND (:ids IS NULL OR runs.run_uuid IN (SELECT value FROM json_each(:ids)))
AND substr(runs.run_uuid, 1, length(:begins)) = :begins
ORDER BY start_time DESC, runs.run_uuid LIMIT :most
"""
#: What a run has besides, a row each.
VALUES = {
    "tags": "SELECT run_uuid, key, value FROM tags",
    "params": "SELECT run_uuid, key, value FROM params",
    "metrics": "SELECT run_uuid, key, CASE WHEN is_nan THEN NULL ELSE value END FROM latest_metrics",
}
OF_RUNS = "WHERE run_uuid IN (SELECT value FROM json_each(?))"
#: What a tag or a parameter is; nothing, where it was never said.
SAID = {str, type(None)}


@dataclass(frozen=True)
class StoredRun:
    """What a store says of a run.

    Args:
        run_id: its id.
        name: its name; empty where it has none.
        status: RUNNING, FINISHED, FAILED or KILLED.
        experiment_id: of its experiment.
        experiment: the name of that.
        started: milliseconds since 1970.
        artifacts: where its artifacts lie, a folder or another address; empty where nobody says.
        tags, params: all of them.
        metrics: the last value of each scalar.
    """

    run_id: str
    name: str
    status: str
    experiment_id: str
    experiment: str
    started: int
    artifacts: str = field(repr=False)
    tags: dict[str, str] = field(repr=False, default_factory=dict)
    params: dict[str, str] = field(repr=False, default_factory=dict)
    metrics: dict[str, float] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, run: Run, experiment: str) -> StoredRun:
        """The same as MLflow says it."""
        info, data = run.info, run.data
        return cls(
            info.run_id,
            info.run_name or "",
            info.status,
            info.experiment_id,
            experiment,
            info.start_time,
            info.artifact_uri or "",
            data.tags,
            data.params,
            data.metrics,
        ).checked()

    def checked(self) -> StoredRun:
        """The same, where all of it is of the kind that MLflow writes: SQLite takes any, and so do damaged bytes.

        Raises:
            UserError: it is not.
        """
        words = [self.run_id, self.name, self.status, self.experiment, self.artifacts, self.tags.get(ENCODING)]
        words += [*self.tags, *self.params, *self.metrics]
        said = {*map(type, self.tags.values()), *map(type, self.params.values())}
        numbers = set(map(type, self.metrics.values()))
        if {*map(type, words)} != {str} or type(self.started) is not int or not said <= SAID or not numbers <= {float}:
            raise UserError(f"run {str(self.run_id)[:8]}: what the store says of it is damaged")
        return self


def stored_runs(
    file: Path,
    experiment: str | None = None,
    *,
    ids: Iterable[str] | None = None,
    begins: str = "",
    most: int | None = None,
) -> list[StoredRun] | None:
    """The runs that `extrapo` recorded in a database, newest first; None where MLflow has to be asked.

    Args:
        file: of the database, which is only read.
        experiment: those of one alone, by its name.
        ids: these alone.
        begins: those alone whose id begins like this.
        most: so many of them, not all.

    Raises:
        UserError: what it says of a run is damaged.
    """
    asked = {
        "tag": ENCODING,
        "experiment": experiment,
        "ids": None if ids is None else json.dumps(list(ids)),
        "begins": begins,
        "most": -1 if most is None else most,
    }
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            # One moment of it, whoever writes.
            database.execute("BEGIN")
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return _runs(database, asked) if is_newest(revision) else None
    except (sqlite3.Error, KeyError, TypeError, OSError, UnicodeError):
        return None


def _runs(database: sqlite3.Connection, asked: dict[str, Any]) -> list[StoredRun]:
    found: dict[str, StoredRun] = {}
    for run_id, name, status, experiment_id, experiment, started, artifacts in database.execute(RUNS, asked):
        found[run_id] = StoredRun(run_id, name, status, str(experiment_id), experiment, started, artifacts or "")
    ids = json.dumps(list(found))
    for kind, query in VALUES.items():
        for run_id, key, value in database.execute(f"{query} {OF_RUNS}", (ids,)):
            getattr(found[run_id], kind)[key] = math.nan if value is None and kind == "metrics" else value
    return [run.checked() for run in found.values()]
