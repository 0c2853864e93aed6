"""The MLflow store of a root folder: created once under a lock, opened by any process; runs by name."""

from __future__ import annotations

import gc
import logging
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

from filelock import FileLock

from extrapo.errors import MachineError, UserError, refusal
from extrapo.files import check_folder
from extrapo.location import Location, redacted
from extrapo.tracking import database, relocation

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: Seconds that a database may be away when it is opened.
PATIENCE = 4.0
#: MLflow's id of a run.
WHOLE_ID, START_OF_ID = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{4,31}")
#: Runs that are read at once.
PAGE = 1000
#: What MLflow says of tables that are not its own, and does not say which of the two is older.
OTHER_TABLES = re.compile(r"out-of-date database schema \(found version (\w+)")
RECORDED = "tags.`extrapo.encoding` LIKE '%'"


def quiet() -> None:
    """Keep mlflow from phoning home and from narrating its migrations; before its first import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # It would ask a server that is gone for eight minutes, and wait two for one that says nothing.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # Seconds that PostgreSQL's clients wait for a server that takes the connection and says nothing.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "4")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints a traceback of what it then raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class RunStore:
    """One experiment of one MLflow store.

    Args:
        location: the folder of all runs, and the address of the database or server.
        experiment: name of the experiment.
        experiment_id: its id.
        client: MLflow's client of `uri`.
    """

    location: Location
    experiment: str
    experiment_id: str
    client: MlflowClient

    @classmethod
    def open(cls, location: Location, experiment: str = "extrapo", *, patience: float = PATIENCE) -> RunStore:
        """Open the store, and create database and experiment if this is the first time.

        A lock in the root lets one process create it: MLflow's migrations fail when several run at once.

        Args:
            location: where.
            experiment: its name.
            patience: seconds that a server may be away, as while it is started again.

        Raises:
            UserError: the root is a file, or the tracking URI cannot be opened.
            MachineError: the root cannot be written.
        """
        quiet()
        if location.is_server:
            _answering(location.uri)
        elif not location.uri.startswith("sqlite"):
            with _explained(location.uri):
                _open_to(location.uri, patience)
        check_folder(location.root, "give another `root`")
        file = location.file
        if file is not None:
            database.check_database(file)
        _make(location.root)
        from mlflow import MlflowClient

        with _first_one_creates(location.root), _explained(location.uri):
            if file is not None and database.is_empty(file):
                database.make_database(file)
            relocation.follow(location)
            client = MlflowClient(location.uri)
            experiment_id = _experiment(client, experiment, None if location.is_server else location.artifacts)
        return cls(location, experiment, experiment_id, client)

    @classmethod
    def existing(cls, location: Location) -> RunStore:
        """Open a store that must be there already, for reading: nothing is created in a root without one.

        Raises:
            UserError: there is no database, or the tracking URI cannot be opened.
        """
        cls.check_existing(location)
        if location.tracking_uri is None and not os.access(location.root, os.W_OK):
            return cls._readable(location)
        return cls.open(location)

    @staticmethod
    def check_existing(location: Location) -> None:
        """Raise UserError where there is no database, in a root or elsewhere; MLflow is not loaded for that."""
        file = location.file
        if file is None:
            return
        if database.is_empty(file):
            where, name = (location.root, "root") if location.tracking_uri is None else (file, "tracking_uri")
            raise UserError(f"no runs in {where}: start one with `extrapo fit`, or say where they are with `{name}`")
        database.check_database(file)

    @classmethod
    def _readable(cls, location: Location) -> RunStore:
        """A database where nothing can be written, not even a lock."""
        quiet()
        from mlflow import MlflowClient

        with _explained(location.uri):
            return cls(location, "", "", MlflowClient(location.uri))

    @property
    def is_writable(self) -> bool:
        """Whether anything can be recorded: a server's and a database's own rights show when it is tried."""
        return self.location.tracking_uri is not None or os.access(self.root, os.W_OK)

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return self.location.root

    def find(self, run: str) -> str:
        """The run id for an id, a prefix of one (4 characters or more), a run's name, or "last".

        Raises:
            UserError: no run or more than one answers to it; the message names what is near.
        """
        return str(self.find_all([run])[0].info.run_id)

    def find_all(self, names: Sequence[str]) -> list[Run]:
        """The run of each name, see `find`; where it goes, what answers to them is read alone: all is a second of a
        full store.

        Raises:
            UserError: as `find`.
        """
        if list(names) == ["last"] and (newest := self.recorded(most=1)):
            return newest
        if (condition := _condition(names)) is not None:
            near = self.recorded(condition=condition)
            if all(any(run.info.run_id.startswith(name) for run in near) for name in names):
                return [self._among(near, name) for name in names]
        recorded = self.recorded()
        return [self._among(recorded, name) for name in names]

    def _among(self, recorded: Sequence[Run], run: str) -> Run:
        """The one that answers to a name."""
        if not recorded:
            raise UserError(f"no runs in {self.root}: start one with `extrapo fit`")
        if run == "last":
            return recorded[0]
        by_prefix = [r for r in recorded if len(run) >= 4 and r.info.run_id.startswith(run)]
        matches = by_prefix or [r for r in recorded if r.info.run_name == run]
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(r.info.run_id[:8] for r in matches[:6])
            raise UserError(f"{len(matches)} runs answer to '{run}'; say which by its id: {ids}")
        names = list(dict.fromkeys(r.info.run_name for r in recorded))
        near = get_close_matches(run, [*names, *(r.info.run_id for r in recorded)], n=3, cutoff=0.5) or names[:3]
        raise UserError(f"no run '{run}' in {self.root}; near or recent: {', '.join(near)}, or say 'last'")

    def recorded(self, experiment: str | None = None, condition: str = "", most: int | None = None) -> list[Run]:
        """All runs that `extrapo` recorded, newest first; of one experiment, or of the whole store.

        Args:
            experiment: its name.
            condition: what must hold of them besides, as MLflow's filters say it.
            most: so many of them, not all.
        """
        experiments = [e for e in self.client.search_experiments() if experiment in (None, e.name)]
        conditions = " AND ".join(filter(None, (RECORDED, condition)))
        return self._pages([e.experiment_id for e in experiments], conditions, most)

    def runs_of(self, experiment_id: str) -> list[Run]:
        """All runs of an experiment, newest first, whoever recorded them."""
        return self._pages([experiment_id])

    def _pages(self, experiments: Sequence[str], condition: str = "", most: int | None = None) -> list[Run]:
        pages: list[Run] = []
        token: str | None = None
        while experiments:
            with uncollected():
                page = self.client.search_runs(
                    list(experiments),
                    filter_string=condition,
                    max_results=min(PAGE, most or PAGE),
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
            pages.extend(page)
            token = page.token
            if not token or len(pages) >= (most or math.inf):
                break
        return pages


def _condition(names: Sequence[str]) -> str | None:
    """What the ids of these runs are, as MLflow's filters say it; None where they are more than ids."""
    if names and all(map(WHOLE_ID.fullmatch, names)):
        return f"attributes.run_id IN ({', '.join(map(repr, names))})"
    if len(names) == 1 and START_OF_ID.fullmatch(names[0]):
        return f"attributes.run_id LIKE '{names[0]}%'"
    return None


@contextmanager
def uncollected() -> Iterator[None]:
    """Many records are read in the block: nothing of them is garbage yet, and Python's collector would look at all of
    them, and at all libraries, each time that there are some thousand more.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _make(root: Path) -> None:
    if "?" in str(root):
        raise UserError(f"a database URL ends at the '?' in {root}; give a `root` without one")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot create {root}: {error.strerror}") from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise MachineError(f"cannot write to {root}: permission denied")


@contextmanager
def _first_one_creates(root: Path) -> Iterator[None]:
    lock = FileLock(root / ".mlflow.lock", timeout=300)
    try:
        lock.acquire()
    except TimeoutError as error:
        raise MachineError(f"another process has held {lock.lock_file} for five minutes") from error
    except OSError as error:
        raise MachineError(f"cannot write to {root}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Say in one line, without the password, why mlflow or SQLAlchemy cannot open a store."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    shown = redacted(uri)
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{shown} needs the Python package '{error.name}': pip install {error.name}") from error
    except CommandError as error:
        raise UserError(f"cannot open the tracking store {shown}: a newer MLflow made it ({error})") from error
    except (MlflowException, SQLAlchemyError) as error:
        if (other := OTHER_TABLES.search(str(error))) is not None:
            raise UserError(f"cannot open the tracking store {shown}: {_age(other[1], shown)}") from error
        if (refused := refusal(error)) is not None:
            raise MachineError(f"cannot open the tracking store {shown}: {refused}") from error
        # SQLAlchemy adds what it asked, and where one may read on.
        cause = " ".join(str(error).split()).split(" (Background on")[0].split(" [SQL:")[0][:300]
        raise UserError(f"cannot open the tracking store {shown}: {cause}") from error


def _age(revision: str, shown: str) -> str:
    """Which MLflow made the tables of a revision, and what to do: of a newer one this one has no steps."""
    from importlib.resources import files

    steps = files("mlflow").joinpath("store", "db_migrations", "versions").iterdir()
    if any(step.name.startswith(f"{revision}_") for step in steps):
        return f"an older MLflow made it; keep a copy of it, then: mlflow db upgrade {shown}"
    return "a newer MLflow made it; install that one: pip install --upgrade mlflow"


def _answering(uri: str) -> None:
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except HTTPError:
        return
    except (OSError, HTTPException) as error:  # URLError is an OSError
        raise UserError(
            f"no MLflow server answers at {redacted(uri)}; start it, or leave `tracking_uri` out"
        ) from error


def _open_to(uri: str, patience: float) -> None:
    """Whether a database on another machine lets us in; MLflow itself would ask for minutes, and say nothing.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it does not.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    deadline = time.monotonic() + patience
    engine = create_engine(uri, poolclass=NullPool)
    while True:
        try:
            engine.connect().close()
            return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _experiment(client: MlflowClient, name: str, location: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            place = None if location is None else relocation.place_of(location)
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException:
            # Another machine on the same server may have been faster; the lock holds on this one only.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise UserError(f"the MLflow experiment '{name}' is deleted; restore it or name another")
    return str(experiment.experiment_id)
