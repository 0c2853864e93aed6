"""Whether the stores of runs and of sweeps can be reached, and what is in them; none is made."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from extrapo.doctor.check import Check
from extrapo.errors import UserError
from extrapo.files import check_folder
from extrapo.location import Location, check_sqlite, redacted, sqlite_file
from extrapo.sweep.storage import default_url, full_address

#: Seconds that a server may take to answer.
PATIENCE = 4.0
#: Where servers listen whose address says no port.
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def checks(location: Location, storage: str | None) -> Iterator[Check]:
    """The store of runs, then that of sweeps."""
    yield store("runs", location.uri, "runs")
    yield store("sweeps", full_address(storage) if storage else default_url(location.root), "studies")


def store(name: str, address: str, table: str) -> Check:
    """What answers at an address.

    Args:
        name: of the store.
        address: an MLflow server, a database, or a SQLite file.
        table: of a SQLite file, whose rows are counted.
    """
    path = sqlite_file(address)
    if path is not None:
        return file(name, path, table)
    parts = urlsplit(address)
    host, port = parts.hostname or "localhost", parts.port or PORTS[parts.scheme.partition("+")[0]]
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as cause:
        return Check("store", name, "broken", f"{redacted(address)}: nothing answers at {host}:{port} ({cause})")
    return Check("store", name, "ok", f"{redacted(address)}: {host}:{port} takes connections")


def file(name: str, path: Path, table: str) -> Check:
    """A SQLite file, opened for reading alone."""
    try:
        check_folder(path.parent, "name another place")
        if path.exists():
            check_sqlite(path)
    except (UserError, OSError) as cause:
        return Check("store", name, "broken", str(cause))
    if not path.exists():
        return Check("store", name, "absent", f"{path}: not there yet; the first one makes it")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            (count,) = database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
    except sqlite3.Error as cause:
        return Check("store", name, "broken", f"{path}: {cause}")
    return Check("store", name, "ok", f"{path}: {count:,} {table}", path.stat().st_size)
