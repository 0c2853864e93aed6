"""The database of a study: opened once under a lock, waited for while it is away."""

from __future__ import annotations

import json
import logging
import math
import re
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from extrapo.errors import MachineError, UserError
from extrapo.files import check_folder, locked
from extrapo.location import check_sqlite, in_memory, redacted, sqlite_address, sqlite_file, sqlite_path

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Engine

T = TypeVar("T")

DATABASE = "sweeps.db"
#: Seconds between two signs of life of a trial, and without one after which it counts as dead.
HEARTBEAT, GRACE = 5, 60
#: Seconds that a database may be away before a command gives up, and the longest pause between two attempts.
PATIENCE, PAUSE = 900.0, 5.0
#: Of a machine that vanishes, PostgreSQL gives up the connections, and the locks that they hold, after a minute and not
#: after hours; so do the clients of a server that vanishes.
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def default_url(root: Path) -> str:
    """The SQLite database of a root folder."""
    return sqlite_address(root.resolve() / DATABASE)


def full_address(url: str) -> str:
    """An address with its driver.

    Raises:
        UserError: another kind of address.
    """
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")) or in_memory(url):
        raise UserError(
            f"`storage={redacted(url)!r}`: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE is expected"
        )
    file = sqlite_file(url)
    if file is not None:
        check_folder(file.parent, "name another place for the database")
        if file.exists():
            check_sqlite(file)
    return url


#: A trial beside its attribute `cell`, in SQL.
OF_CELL = "JOIN trial_user_attributes AS a ON a.trial_id = t.trial_id AND a.key = :cell"


@dataclass
class Storage:
    """Where studies are kept.

    Args:
        url: SQLAlchemy's address of it.
        rdb: Optuna's view of it.
        locks: connections that hold a lock and nothing else; None where a file is locked.
        say: told when the database goes away and when it is back.
        back_at: when it was last back, by the monotonic clock.
    """

    url: str
    rdb: RDBStorage = field(repr=False)
    locks: Engine | None = field(repr=False)
    say: Callable[[str], None] = field(repr=False)
    back_at: float = -math.inf

    @property
    def was_away(self) -> bool:
        """Whether it was away so short a time ago that everybody's signs of life are late."""
        return time.monotonic() - self.back_at < GRACE

    def patiently(self, operation: Callable[[], T]) -> T:
        """Do what may be done twice; while the database is away, wait for it and do it again.

        A connection that breaks does not say whether the last commit arrived: hence operations that look first.

        Raises:
            MachineError: the database stays away.
            UserError: its disk is full.
        """
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        began, pause, has_said = time.monotonic(), 0.1, False
        while True:
            try:
                result = operation()
            except (StorageInternalError, SQLAlchemyError) as cause:
                if full(cause):
                    raise UserError(
                        f"no space left for the study in {redacted(self.url)}; what it holds is kept"
                    ) from cause
                if not away(cause):
                    raise
                if time.monotonic() - began > PATIENCE:
                    raise MachineError(f"the storage {redacted(self.url)} has not answered for 15 minutes") from cause
                if not has_said and time.monotonic() - began > 1.0:
                    has_said = True
                    self.say(f"the storage {redacted(self.url)} does not answer; waiting for it")
                time.sleep(pause)
                pause = min(PAUSE, 2 * pause)
            else:
                if pause > 0.1:
                    self.back_at = time.monotonic()
                if has_said:
                    self.say("the storage answers again")
                return result

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One process at a time, over all machines; the lock of one that dies is free.

        SQLite's own transactions do not stop two processes from both reading a state and then both writing it.
        """
        if self.locks is None:
            with locked(Path(f"{sqlite_path(self.url)}.lock")):
                yield
            return
        from sqlalchemy import text

        # The lock lives as long as its connection, which is closed behind it.
        with self.locks.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": zlib.crc32(name.encode())})
            yield

    def widen(self, study: str, choices: Mapping[str, Sequence[Any]]) -> None:
        """Say of all that a study has chosen that it was chosen among these values: Optuna wants the same of each
        trial, and keeps a choice as its place among them, so those that were there come first. Twice is once.
        """
        from optuna.distributions import CategoricalDistribution, distribution_to_json
        from sqlalchemy import text

        study_id = self.rdb.get_study_id_from_name(study)
        command = text(
            "UPDATE trial_params SET distribution_json = :among "
            "WHERE param_name = :key AND distribution_json <> :among "
            "AND trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)"
        )
        with self.rdb.engine.begin() as connection:
            for key, values in choices.items():
                among = distribution_to_json(CategoricalDistribution(values))
                connection.execute(command, {"among": among, "key": key, "study": study_id})

    def waiting(self, study: str, cell: str) -> Iterator[int]:
        """The waiting trials that are the last of their cell, by number; each is looked for when it is asked for.

        Optuna would read the whole study for one of them, a second of many thousand trials.

        Args:
            study: its name.
            cell: the attribute of a trial that says which cell it is of.

        Returns:
            The numbers that the storage has for them.
        """
        from sqlalchemy import text

        first = text(
            f"SELECT t.trial_id, t.number, a.value_json FROM trials AS t {OF_CELL} "
            "WHERE t.study_id = :study AND t.state = 'WAITING' AND t.number > :after ORDER BY t.number LIMIT 1"
        )
        known = {"study": self.rdb.get_study_id_from_name(study), "cell": cell, "after": -1}
        while True:
            with self.rdb.engine.connect() as connection:
                found = connection.execute(first, known).first()
            if found is None:
                return
            known["after"] = found.number
            if self.is_last(study, cell, json.loads(found.value_json), found.number):
                yield int(found.trial_id)

    def is_last(self, study: str, cell: str, value: int, number: int) -> bool:
        """Whether no later trial is of the same cell.

        Args:
            study: its name.
            cell: the attribute of a trial that says which cell it is of.
            value: the cell.
            number: of the trial.
        """
        from sqlalchemy import text

        later = text(
            f"SELECT 1 FROM trials AS t {OF_CELL} "
            "WHERE t.study_id = :study AND t.number > :after AND a.value_json = :value LIMIT 1"
        )
        known = {"study": self.rdb.get_study_id_from_name(study), "cell": cell, "after": number}
        with self.rdb.engine.connect() as connection:
            return connection.execute(later, {**known, "value": json.dumps(value)}).first() is None


def open_storage(url: str | None, root: Path, say: Callable[[str], None] = lambda line: None) -> Storage:
    """Open the storage, and create its tables if this is the first time.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/DATABASE`; None for the root's own.
        root: folder of all runs.
        say: told when the database goes away.

    Raises:
        UserError: another kind of address, a missing driver, or no answer.
    """
    import optuna
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    # Optuna calls heartbeats and names of objectives experimental, at every use.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    url = full_address(url or default_url(root))
    kind = url.partition(":")[0]
    options: dict[str, object] = {"connect_args": {"timeout": 60}}
    locks: Engine | None = None
    try:
        if kind != "sqlite":
            asked = " ".join(f"-c tcp_{name}={value}" for name, value in ALIVE.items())
            arguments = {"connect_timeout": 10, **ALIVE, "options": asked}
            options = {"connect_args": arguments, "pool_pre_ping": True}
            locks = create_engine(url, poolclass=NullPool, connect_args=arguments)

        def tables() -> RDBStorage:
            return optuna.storages.RDBStorage(
                url, engine_kwargs=dict(options), heartbeat_interval=HEARTBEAT, grace_period=GRACE
            )

        # The lock needs no tables: Optuna's own creation of them fails where several processes begin at once.
        if kind == "sqlite":
            with locked(Path(f"{sqlite_path(url)}.lock")):
                rdb = tables()
        else:
            with Storage(url, None, locks, say).locked("extrapo"):  # type: ignore[arg-type]
                rdb = tables()
    except ImportError as cause:
        raise UserError(f"`storage={redacted(url)!r}` needs a driver: pip install 'extrapo[postgres]'") from cause
    except (SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError) as cause:
        if full(cause):
            raise UserError(f"no space left for the study in {redacted(url)}") from cause
        reason = " ".join(str(cause.__cause__ or cause).split()).split(" (Background")[0].split(" [SQL")[0][:200]
        raise UserError(f"cannot open the storage {redacted(url)}: {reason}") from cause
    return Storage(url, rdb, locks, say)


def reopen_storage(url: str, root: Path, say: Callable[[str], None]) -> Storage:
    """Open a storage that another process has just used: it is waited for while it is away."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return open_storage(url, root, say)
        except UserError as cause:
            if not away(cause.__cause__) or time.monotonic() > deadline:
                raise
            say(str(cause))
            time.sleep(PAUSE)


def away(cause: BaseException | None) -> bool:
    """Whether a failure is that of a connection: refused, broken, a server that starts or stops, a lock held long."""
    from sqlalchemy.exc import InterfaceError, OperationalError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    while cause is not None:
        if isinstance(cause, OperationalError | InterfaceError | PoolTimeout):
            return True
        # A session that finds its connection broken half-way complains of its own state, and not from the break.
        cause = cause.__cause__ or cause.__context__
    return False


def full(cause: BaseException | None) -> bool:
    """Whether a failure is that of a disk without room."""
    while cause is not None:
        if "disk is full" in str(cause) or "No space left" in str(cause) or "disk I/O error" in str(cause):
            return True
        cause = cause.__cause__
    return False
