"""A new SQLite database for MLflow: made beside its place and renamed, so that no root ever holds half of one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from extrapo.errors import MachineError, UserError
from extrapo.files import check_folder
from extrapo.location import check_sqlite, sqlite_address

#: Begins the name of the folder, beside the database, in which one is made.
PARTIAL = ".mlflow-partial-"


def is_empty(path: Path) -> bool:
    """Whether nothing is at `path`, or a file without a byte: what becomes a database."""
    return not path.exists() or not path.stat().st_size


def check_database(path: Path) -> None:
    """Whether MLflow's database is at `path`, or could be made there; before anything is written beside it.

    Raises:
        UserError: a pipe, a damaged file, a file of something else, or a file where its folder should be.
    """
    check_folder(path.parent, "name another place for the database")
    if not path.exists():
        return
    check_sqlite(path)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.OperationalError:
        # Somebody holds it: who opens it waits, or says so.
        return
    except (sqlite3.DatabaseError, UnicodeError) as cause:
        raise UserError(f"{path} is damaged: {cause}") from cause
    if tables and "experiments" not in tables:
        raise UserError(f"{path} is the database of something else, not of runs")


def make_database(path: Path) -> None:
    """Make the database at `path`, where there is none, or an empty file; one process at a time.

    MLflow's tables come in some fifty steps, and what is left of a process that ends among them can neither be used nor
    be completed: it would have to be deleted by hand.

    Raises:
        MachineError: the folder cannot be written.
    """
    for left in path.parent.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
