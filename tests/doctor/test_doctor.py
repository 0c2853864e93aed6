"""The doctor: what it finds here is so, what is broken is said, and nothing is changed."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from extrapo import attention
from extrapo.cli import run
from extrapo.doctor import caches, environment, stores, versions
from extrapo.doctor.check import Check


def examined(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
) -> dict[tuple[str, str], dict[str, object]]:
    assert run(["doctor", "--json", *arguments]) == code
    said = capsys.readouterr()
    assert ("nothing is broken" in said.err) == (code == 0)
    return {(check["group"], check["name"]): check for check in json.loads(said.out)["checks"]}


def test_what_it_finds_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = examined(capsys, "--root", str(tmp_path / "runs"))
    version = found["environment", "python"]["detail"]
    assert str(version).startswith(".".join(map(str, sys.version_info[:3])))
    assert found["library", "torch"]["status"] == "ok"
    for backend in attention.BACKENDS:
        assert found["back end", f"{backend.name} on cpu"]["detail"]
    assert found["back end", "reference on cpu"]["detail"] == "serves everything"
    assert found["back end", "decode on cpu"]["status"] == "ok"
    assert found["store", "runs"]["status"] == found["store", "sweeps"]["status"] == "absent"
    # Nothing was made.
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_broken_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, and longer than the header of one would be" * 20)
    found = examined(capsys, "--root", str(tmp_path), code=1)
    assert found["store", "runs"]["status"] == "broken"
    assert "no database of SQLite" in str(found["store", "runs"]["detail"])


def test_an_address_that_can_be_none_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--tracking-uri", "gopher://x"]) == 2
    assert run(["doctor", "--storage", "mysql://x/y"]) == 2
    assert "--storage" in capsys.readouterr().err


def test_a_file_is_counted_and_only_read(tmp_path: Path) -> None:
    path = tmp_path / "a b.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE runs (x)")
        database.executemany("INSERT INTO runs VALUES (?)", [(1,), (2,)])
    database.close()
    before = path.read_bytes()
    found = stores.store("runs", f"sqlite:///{path}", "runs")
    assert (found.status, found.detail) == ("ok", f"{path}: 2 runs")
    assert path.read_bytes() == before
    assert stores.store("runs", f"sqlite:///{path}", "studies").status == "broken"


def test_servers_answer_or_do_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = stores.store("sweeps", f"postgresql+psycopg://me:secret@127.0.0.1:{port}/sweeps", "studies")
        assert found.status == "ok"
        assert "secret" not in found.detail
    assert stores.store("runs", f"http://127.0.0.1:{port}", "runs").status == "broken"


@pytest.mark.parametrize(
    ("line", "status", "detail"),
    [
        ("torch>=2", "ok", ""),
        ("torch<2", "note", "lies outside of <2"),
        ("no-such-library>=3", "broken", "pip install 'no-such-library>=3'"),
    ],
)
def test_versions(line: str, status: str, detail: str) -> None:
    found = versions.needed(Requirement(line))
    assert found.status == status
    assert detail in found.detail


def test_extras() -> None:
    assert versions.optional("x", [Requirement("torch"), Requirement("none-such")]).status == "absent"
    assert versions.optional("x", [Requirement("torch<2"), Requirement("numpy")]).status == "note"
    assert versions.optional("x", [Requirement("numpy")]).detail.startswith("numpy ")


def test_caches_have_sizes(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to(tmp_path / "inner" / "file")
    assert caches.of_folder("text", tmp_path).bytes == 1000
    assert caches.of_folder("text", tmp_path / "none").status == "absent"
    assert caches.writable(tmp_path / "not" / "there").status == "ok"


def test_rows_are_plain() -> None:
    for check in environment.checks():
        assert json.loads(json.dumps(check.row())) == {**check.row()}
    assert Check("a", "b", "ok", "c").row()["bytes"] is None
