"""Whether a store can be opened, and in one line why not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

from extrapo.errors import MachineError, UserError, refusal
from extrapo.location import redacted
from extrapo.tracking.schema import age

#: What MLflow says of tables that are not its own, and does not say which of the two is older.
OTHER_TABLES = re.compile(r"out-of-date database schema \(found version (\w+)")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Say in one line, without the password, why mlflow or SQLAlchemy cannot open a store."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    shown = redacted(uri)
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        # Of an option behind the `?` of an address.
        raise UserError(f"cannot open the tracking store {shown}: {error}") from error
    except ModuleNotFoundError as error:
        raise UserError(f"{shown} needs the Python package '{error.name}': pip install {error.name}") from error
    except CommandError as error:
        raise UserError(f"cannot open the tracking store {shown}: a newer MLflow made it ({error})") from error
    except (MlflowException, SQLAlchemyError) as error:
        if (other := OTHER_TABLES.search(str(error))) is not None:
            raise UserError(f"cannot open the tracking store {shown}: {age(other[1], shown)}") from error
        if (refused := refusal(error)) is not None:
            raise MachineError(f"cannot open the tracking store {shown}: {refused}") from error
        # SQLAlchemy adds what it asked, and where one may read on.
        cause = " ".join(str(error).split()).split(" (Background on")[0].split(" [SQL:")[0][:300]
        raise UserError(f"cannot open the tracking store {shown}: {cause}") from error


def check_answering(uri: str) -> None:
    """Whether a server answers at an address; UserError where none does."""
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except HTTPError:
        return
    except (OSError, HTTPException) as error:  # URLError is an OSError
        raise UserError(
            f"no MLflow server answers at {redacted(uri)}; start it, or leave `tracking_uri` out"
        ) from error


def check_open(uri: str, patience: float) -> None:
    """Whether a database on another machine lets us in; MLflow itself would ask for minutes, and say nothing.

    Args:
        uri: its address.
        patience: seconds that it may be away.

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
