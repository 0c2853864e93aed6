"""A root that was moved or copied: MLflow keeps whole paths of artifacts, and these follow.

Otherwise what is recorded is looked for where the root was, and more is written there.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock, Timeout

from extrapo.errors import MachineError
from extrapo.location import UNDELIVERED, Location

#: Seconds that another program may hold the database.
PATIENCE = 30


def place_of(artifacts: Path) -> str:
    """A folder as MLflow is told of it: in a path it takes a percent sign for the beginning of another character's
    number, here and there.
    """
    return artifacts.as_uri() if "%" in str(artifacts) else str(artifacts)


def follow(location: Location) -> None:
    """Let the database in a root name the artifacts beside it, where it names those of the place where it was.

    Only what `extrapo` laid there: experiments whose artifacts were in `artifacts` beside a database, and of which runs
    are here. Not while a run of this root is at work, perhaps on a machine that has it under the other name.

    Raises:
        MachineError: the database cannot be written.
    """
    if location.tracking_uri is not None or not location.database.exists():
        return
    with closing(sqlite3.connect(location.database, timeout=0)) as connection:
        try:
            moved = list(_moved(connection, location.artifacts))
        except (sqlite3.DatabaseError, TypeError, ValueError):
            # Somebody holds it, or it is damaged: who opens it waits, or says so.
            return
        if moved and not _is_at_work(location.root):
            connection.execute(f"PRAGMA busy_timeout = {1000 * PATIENCE}")
            try:
                _rewrite(connection, moved, place_of(location.artifacts))
            except sqlite3.DatabaseError as cause:
                raise MachineError(f"cannot write to {location.database}: {cause}") from cause


def _moved(connection: sqlite3.Connection, artifacts: Path) -> Iterator[tuple[int, str]]:
    """(experiment, place) of what lies beside the database and is said to lie elsewhere."""
    if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return
    for experiment, place in connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall():
        there = Path(unquote(place.removeprefix("file://")) if place.startswith("file://") else place or "")
        if there == artifacts or not there.is_absolute() or there.name != artifacts.name or _same(there, artifacts):
            continue
        runs = connection.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (experiment,)).fetchall()
        if not runs or any((artifacts / run).is_dir() for (run,) in runs):
            yield experiment, place


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _is_at_work(root: Path) -> bool:
    """Whether a process records a run of this root."""
    for held in root.glob(f"*/{UNDELIVERED}/lock"):
        try:
            with FileLock(held, timeout=0):
                continue
        except (Timeout, OSError):
            return True
    return False


def _rewrite(connection: sqlite3.Connection, moved: list[tuple[int, str]], place: str) -> None:
    """All of it at once, or none."""
    with connection:
        for experiment, before in moved:
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (place, len(before) + 1, experiment, len(before) + 1, f"{before}/"),
            )
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (place, experiment)
            )
