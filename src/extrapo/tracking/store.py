"""The MLflow store of a root folder: created once under a lock, opened by any process; runs by name."""

from __future__ import annotations

import gc
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from extrapo.errors import MachineError, UserError
from extrapo.files import check_folder
from extrapo.location import Location
from extrapo.reading import shortened
from extrapo.tracking import database, relocation
from extrapo.tracking.access import check_answering, check_open, explained
from extrapo.tracking.rows import ENCODING, StoredRun, stored_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: Seconds that a database may be away when it is opened.
PATIENCE = 4.0
#: MLflow's id of a run.
WHOLE_ID, START_OF_ID = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{4,31}")
#: Runs that are read at once.
PAGE = 1000
RECORDED = f"tags.`{ENCODING}` LIKE '%'"


def quiet() -> None:
    """Keep mlflow from phoning home and from narrating its migrations; before its first import.

    Raises:
        UserError: the environment asks it for a level of logging that there is not, of which it ends in a traceback.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    level = os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if level.upper() not in logging.getLevelNamesMapping():
        raise UserError(f"MLFLOW_LOGGING_LEVEL is DEBUG, INFO, WARNING, ERROR or CRITICAL, not {shortened(level)!r}")
    # Nobody looks at it, and of a value that is none it ends a run at its last word.
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
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
    """One experiment of one MLflow store; or all of the store, where it was opened for what is there already.

    Args:
        location: the folder of all runs, and the address of the database or server.
        experiment: name of the experiment; empty for all.
        experiment_id: its id; empty for all.
    """

    location: Location
    experiment: str = ""
    experiment_id: str = ""

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client of the address; MLflow is loaded when this is first asked for.

        Raises:
            UserError, MachineError: MLflow cannot open the store.
        """
        quiet()
        from mlflow import MlflowClient

        with explained(self.location.uri):
            return MlflowClient(self.location.uri)

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
            check_answering(location.uri)
        elif not location.uri.startswith("sqlite"):
            with explained(location.uri):
                check_open(location.uri, patience)
        check_folder(location.root, "give another `root`")
        file = location.file
        if file is not None:
            database.check_database(file)
        _make(location.root)
        with _first_one_creates(location.root), explained(location.uri):
            if file is not None and database.is_empty(file):
                database.make_database(file)
            relocation.follow(location)
            client = cls(location).client
            experiment_id = _experiment(client, experiment, None if location.is_server else location.artifacts)
        return cls(location, experiment, experiment_id)

    @classmethod
    def existing(cls, location: Location) -> RunStore:
        """Open a store that must be there already, for reading: nothing is created in a root without one, and of a
        file of SQLite no MLflow is loaded before it is needed.

        Raises:
            UserError: there is no database, or the tracking URI cannot be opened.
            MachineError: the root was moved, and its database cannot be written.
        """
        # Whoever opens it may load MLflow before the client does.
        quiet()
        cls.check_existing(location)
        if location.file is None:
            return cls.open(location)
        if location.tracking_uri is None and os.access(location.root, os.W_OK):
            with _first_one_creates(location.root):
                relocation.follow(location)
        return cls(location)

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
        if location.tracking_uri is None:
            # It is read by its path; but what opens it to write would make another one, at another place.
            _check_root(location.root)

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
        return self.find_all([run])[0].run_id

    def find_all(self, names: Sequence[str]) -> list[StoredRun]:
        """The run of each name, see `find`; where it goes, what answers to them is read alone: all is a second of a
        full store.

        Raises:
            UserError: as `find`.
        """
        if list(names) == ["last"] and (newest := self.recorded(most=1)):
            return newest
        near: list[StoredRun] = []
        if names and all(map(WHOLE_ID.fullmatch, names)):
            near = self.recorded(ids=names)
        elif len(names) == 1 and START_OF_ID.fullmatch(names[0]):
            near = self.recorded(begins=names[0])
        are_all_there = near and all(any(one.run_id.startswith(name) for one in near) for name in names)
        known = near if are_all_there else self.recorded()
        return [self._among(known, name) for name in names]

    def _among(self, recorded: Sequence[StoredRun], run: str) -> StoredRun:
        """The one that answers to a name."""
        if not recorded:
            raise UserError(f"no runs in {self.root}: start one with `extrapo fit`")
        if run == "last":
            return recorded[0]
        by_prefix = [r for r in recorded if len(run) >= 4 and r.run_id.startswith(run)]
        matches = by_prefix or [r for r in recorded if r.name == run]
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(r.run_id[:8] for r in matches[:6])
            raise UserError(f"{len(matches)} runs answer to '{run}'; say which by its id: {ids}")
        names = list(dict.fromkeys(r.name for r in recorded))
        near = get_close_matches(run, [*names, *(r.run_id for r in recorded)], n=3, cutoff=0.5) or names[:3]
        raise UserError(f"no run '{run}' in {self.root}; near or recent: {', '.join(near)}, or say 'last'")

    def recorded(
        self,
        experiment: str | None = None,
        *,
        ids: Sequence[str] | None = None,
        begins: str = "",
        most: int | None = None,
    ) -> list[StoredRun]:
        """All runs that `extrapo` recorded, newest first; of one experiment, or of the whole store.

        Args:
            experiment: its name.
            ids: those with these ids alone.
            begins: those whose id begins like this alone.
            most: so many of them, not all.

        Raises:
            UserError, MachineError: the store cannot be read.
        """
        file = self.location.file
        if file is not None:
            with uncollected():
                found = stored_runs(file, experiment, ids=ids, begins=begins, most=most)
            if found is not None:
                return found
        conditions = [RECORDED]
        conditions += [] if ids is None else [f"attributes.run_id IN ({', '.join(map(repr, ids))})"]
        conditions += [f"attributes.run_id LIKE '{begins}%'"] if begins else []
        client = self.client
        with explained(self.location.uri):
            names = {e.experiment_id: e.name for e in client.search_experiments() if experiment in (None, e.name)}
            runs = self._pages(list(names), " AND ".join(conditions), most)
        return [StoredRun.of(run, names[run.info.experiment_id]) for run in runs]

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


def _check_root(root: Path) -> None:
    if "?" in str(root):
        raise UserError(f"a database URL ends at the '?' in {root}; give a `root` without one")


def _make(root: Path) -> None:
    _check_root(root)
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
