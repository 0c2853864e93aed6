"""Where runs are recorded: the folder of their files and the address of their database, as one value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from extrapo.errors import UserError
from extrapo.reading import check_regular, path_of

if TYPE_CHECKING:
    from extrapo.config import StoreSettings

#: How a database of SQLite begins; an empty file becomes one.
SQLITE = b"SQLite format 3\0"
#: Below a run's folder: what its store has not taken yet, and the lock of who records it.
UNDELIVERED = "undelivered"
#: What MLflow keeps runs in, by the start of its address; a database may name its driver behind a `+`.
ADDRESSES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


def redacted(address: str) -> str:
    """An address without its password."""
    return re.sub(r"(password=)[^&#]*", r"\1***", re.sub(r"//([^:@/]*):.*@", r"//\1:***@", address))


def sqlite_address(path: Path) -> str:
    """SQLAlchemy's address of a file: a percent sign there begins the number of another character."""
    return f"sqlite:///{str(path).replace('%', '%25')}"


def sqlite_path(address: str) -> Path:
    """The file of such an address."""
    return Path(unquote(address.partition(":///")[2].partition("?")[0]))


def sqlite_file(address: str) -> Path | None:
    """The file of an address of SQLite, a driver named or not; None for a server and another database."""
    return sqlite_path(address) if re.match(r"sqlite(\+\w+)?:///", address) else None


def in_memory(address: str) -> bool:
    """Whether an address of SQLite names no file: what is written there is gone with the process."""
    return address.startswith("sqlite") and address.partition("://")[2] in ("", "/", "/:memory:")


def check_sqlite(path: Path) -> None:
    """Whether a file that is there is a database of SQLite, or may become one; before anything is written beside it.

    Raises:
        UserError: it is something else.
        OSError: it may not be read.
    """
    check_regular(path)
    with path.open("rb") as file:
        head = file.read(len(SQLITE))
    if head not in (b"", SQLITE):
        raise UserError(f"{path} is no database of SQLite")


def check_address(address: str) -> None:
    """Whether an MLflow server or a database may be at an address.

    Raises:
        UserError: none can.
    """
    wanted = "http://HOST:PORT, sqlite:///FILE or postgresql://USER@HOST/DATABASE is expected"
    try:
        parts = urlsplit(address)
        server, _ = parts.hostname, parts.port
    except ValueError as cause:
        raise UserError(f"`tracking_uri={redacted(address)!r}`: {cause}; {wanted}") from cause
    if parts.scheme.partition("+")[0] not in ADDRESSES or (parts.scheme.startswith("http") and not server):
        raise UserError(f"`tracking_uri={redacted(address)!r}`: {wanted}")
    if in_memory(address):
        raise UserError(f"`tracking_uri={address!r}` is a database in memory, which nobody can read later; {wanted}")


@dataclass(frozen=True)
class Location:
    """A root folder and a tracking address: the same place from every folder and in every process.

    Args:
        root: folder of all runs (checkpoints, pictures, database); kept absolute, with `~` expanded.
        tracking_uri: MLflow server or database; None is a SQLite database in the root.

    Raises:
        UserError: a path or an address that can be none.
    """

    root: Path = Path("runs")
    tracking_uri: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", path_of(self.root).resolve())
        if self.tracking_uri is not None:
            check_address(self.tracking_uri)

    @classmethod
    def of(cls, config: StoreSettings) -> Location:
        """Where runs are recorded that are configured so."""
        return cls(Path(config.root), config.tracking_uri)

    @property
    def database(self) -> Path:
        """The SQLite file of a root without another tracking address."""
        return self.root / "mlflow.db"

    @property
    def uri(self) -> str:
        """The address that MLflow is given."""
        return self.tracking_uri or sqlite_address(self.database)

    @property
    def file(self) -> Path | None:
        """The SQLite file, in the root or elsewhere; None for a server and another database."""
        return self.database if self.tracking_uri is None else sqlite_file(self.tracking_uri)

    @property
    def is_server(self) -> bool:
        """Whether an MLflow server answers at the address, and not a database."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def artifacts(self) -> Path:
        """Where the artifacts of a database's runs lie; a server keeps its own."""
        return self.root / "artifacts"

    def folder(self, run_id: str) -> Path:
        """The local folder of a run: its checkpoints, its tokenizer, its configuration, copies of its pictures."""
        return self.root / run_id
