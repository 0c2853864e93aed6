"""A location is the same place however it is written, and says where its parts lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from extrapo.config import RunConfig
from extrapo.location import Location, sqlite_address, sqlite_file, sqlite_path


def test_a_relative_root_is_fixed_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Location(Path("runs"))
    monkeypatch.chdir("/")
    assert here.root == tmp_path.resolve() / "runs"
    assert here == Location(tmp_path / "runs")


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Location(Path("~/runs")).root == tmp_path.resolve() / "runs"


def test_without_an_address_the_database_lies_in_the_root(tmp_path: Path) -> None:
    location = Location(tmp_path)
    assert location.uri == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"
    assert not location.is_server


def test_an_address_wins_over_the_root(tmp_path: Path) -> None:
    location = Location(tmp_path, "http://127.0.0.1:5000")
    assert location.uri == "http://127.0.0.1:5000"
    assert location.is_server


def test_a_configuration_names_its_location(tmp_path: Path) -> None:
    config = RunConfig(root=str(tmp_path), tracking_uri="sqlite:////elsewhere.db")
    assert Location.of(config) == Location(tmp_path, "sqlite:////elsewhere.db")


def test_every_run_has_a_folder_in_the_root(tmp_path: Path) -> None:
    assert Location(tmp_path).folder("abc") == tmp_path.resolve() / "abc"


def test_an_address_leads_to_its_file(tmp_path: Path) -> None:
    for name in ("a b", "100%41", "%25", "#", "größe;'\""):
        place = tmp_path / name
        place.mkdir()
        assert sqlite_path(sqlite_address(place / "x.db")) == place / "x.db"
        create_engine(sqlite_address(place / "x.db")).connect().close()
        assert (place / "x.db").is_file()


def test_only_an_address_of_sqlite_leads_to_a_file() -> None:
    assert sqlite_file("sqlite:////a/b.db") == sqlite_file("sqlite+pysqlite:////a/b.db?timeout=3") == Path("/a/b.db")
    for other in ("postgresql://host/name", "http://127.0.0.1:5000", "nonsense"):
        assert sqlite_file(other) is None
