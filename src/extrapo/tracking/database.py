"""A new SQLite database for MLflow: made beside its place and renamed, so that no root ever holds half of one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from extrapo.errors import MachineError
from extrapo.location import sqlite_address

#: Begins the name of the folder, beside the database, in which one is made.
PARTIAL = ".mlflow-partial-"


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for another kind of address, and for a database in memory."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    in_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if in_file else None


def make_database(path: Path) -> None:
    """Make the database at `path`, where there is none; one process at a time.

    MLflow's tables come in some fifty steps, and what is left of a process that ends among them can neither be used nor
    be completed: it would have to be deleted by hand.

    Raises:
        MachineError: the folder cannot be written.
    """
    for left in path.parent.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with TemporaryDirectory(prefix=PARTIAL, dir=path.parent) as folder:
            partial = Path(folder) / path.name
            make_tables(partial)
            os.replace(partial, path)
    except OSError as error:
        raise MachineError(f"cannot write to {path.parent}: {error.strerror or error}") from error


def make_tables(path: Path) -> None:
    """Have MLflow make its tables in a new file, which goes to the disk once, when it is whole.

    Each of MLflow's steps would wait for the disk by itself: seconds, of a database that nobody can see yet.
    """
    from mlflow import MlflowClient
    from sqlalchemy import Engine, event

    def do_not_wait(connection: sqlite3.Connection, _: object) -> None:
        files = [row[2] for row in connection.execute("PRAGMA database_list")]
        if files == [str(path.resolve())]:
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", do_not_wait)
    try:
        MlflowClient(sqlite_address(path)).search_experiments(max_results=1)
    finally:
        event.remove(Engine, "connect", do_not_wait)
    with path.open("rb") as file:
        os.fsync(file.fileno())
