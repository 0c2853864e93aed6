"""The database of a study: waited for while it is away, and not when it is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from extrapo.errors import MachineError, UserError
from extrapo.location import redacted
from extrapo.sweep import storage as module
from extrapo.sweep.storage import Storage, open_storage


@pytest.fixture
def opened(tmp_path: Path) -> Storage:
    return open_storage(None, tmp_path, print)


def failing(times: int, message: str = "server closed the connection") -> list[Exception]:
    cause = StorageInternalError("An exception is raised during the commit.")
    cause.__cause__ = OperationalError("SELECT 1", {}, Exception(message))
    return [cause] * times


def test_an_operation_waits_for_a_database_that_is_away(
    opened: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))
    faults = failing(3)

    def operation() -> str:
        if faults:
            raise faults.pop()
        return "done"

    assert opened.patiently(operation) == "done"
    printed = capsys.readouterr().out
    assert printed.count("does not answer; waiting for it") == 1
    assert "answers again" in printed


def test_patience_ends(opened: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100_000, 60))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))

    def operation() -> None:
        raise failing(1)[0]

    with pytest.raises(MachineError, match="has not answered for 15 minutes"):
        opened.patiently(operation)


def test_a_full_disk_is_told_at_once(opened: Storage) -> None:
    def operation() -> None:
        raise failing(1, "database or disk is full")[0]

    with pytest.raises(UserError, match="no space left for the study"):
        opened.patiently(operation)


def test_what_is_no_outage_is_not_waited_for(opened: Storage) -> None:
    def operation() -> None:
        raise KeyError("a mistake of the program's")

    with pytest.raises(KeyError):
        opened.patiently(operation)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
    ],
)
def test_passwords_are_not_shown(url: str, expected: str) -> None:
    assert redacted(url) == expected


def test_a_worker_waits_for_a_storage_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def opening(url: str, root: Path, say: object) -> str:
        tried.append(url)
        if len(tried) < 3:
            raise UserError("cannot open the storage") from failing(1)[0]
        return "opened"

    monkeypatch.setattr(module, "open_storage", opening)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    assert module.reopen_storage("sqlite:///x", tmp_path, print) == "opened"  # type: ignore[comparison-overlap]
    monkeypatch.setattr(module, "away", lambda cause: False)
    tried.clear()
    with pytest.raises(UserError):
        module.reopen_storage("sqlite:///x", tmp_path, print)
