"""A root that was moved or copied keeps what it has, and gets what comes."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, relocation, runs
from extrapo.tracking.outbox import Journal


@pytest.fixture
def root(tmp_path: Path, store: RunStore) -> Path:
    """A root with a run, an experiment without any, and one whose artifacts somebody else keeps."""
    root = tmp_path / "old 100%"
    root.mkdir()
    shutil.copy(store.location.database, root)
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM runs")
        connection.execute("DELETE FROM experiments")
    opened = RunStore.open(Location(root))
    RunStore.open(Location(root), "empty")
    opened.client.create_experiment("foreign", artifact_location=str(tmp_path / "elsewhere" / "artifacts"))
    recorder = Recorder.start(opened, "one", config={"encoding": "rope", "seq_len": 64})
    (recorder.folder / "best.ckpt").touch()
    recorder.checkpoint(recorder.folder / "last.ckpt", recorder.folder / "best.ckpt")
    foreign = opened.client.get_experiment_by_name("foreign")
    opened.client.create_run(foreign.experiment_id)
    return root


def as_a_new_process() -> None:
    """MLflow remembers where the artifacts of a run lie for as long as a process lives."""
    utils._artifact_repos_cache.clear()


def places(root: Path) -> set[str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs")
        return {place.rsplit("/artifacts")[0] for (place,) in found if "mlruns" not in place}


@pytest.mark.parametrize("copied", [False, True])
def test_what_is_recorded_follows(root: Path, tmp_path: Path, copied: bool) -> None:
    (before,) = runs(root)
    new = tmp_path / "new"
    shutil.copytree(root, new) if copied else root.rename(new)
    as_a_new_process()
    (run,) = runs(new)
    assert run.config["encoding"] == "rope"
    assert run.checkpoint == new / run.run_id / "best.ckpt"
    run.store.client.log_text(run.run_id, "more", "more.txt")
    assert (new / "artifacts" / run.run_id / "artifacts" / "more.txt").read_text() == "more"
    assert places(new) == {str(new), str(tmp_path / "elsewhere")}
    if copied:
        # The old one is as it was.
        assert places(root) == {root.as_uri(), str(tmp_path / "elsewhere")}
        assert before.config["encoding"] == "rope"
        assert not list(root.glob("artifacts/*/artifacts/more.txt"))
    else:
        assert not root.exists()


def test_not_while_a_run_is_at_work(root: Path, tmp_path: Path) -> None:
    """It may write from a machine that has the same folder under another name."""
    new = root.rename(tmp_path / "new")
    (folder,) = (path.parent for path in new.glob("*/best.ckpt"))
    before = places(new)
    journal = Journal(folder)
    relocation.follow(Location(new))
    assert places(new) == before
    journal.close(delivered=True)
    relocation.follow(Location(new))
    assert places(new) == {str(new), str(tmp_path / "elsewhere")}


def test_a_link_to_the_root_is_no_other_place(root: Path, tmp_path: Path) -> None:
    """As a mount of it is none."""
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        link = tmp_path / "link"
        link.symlink_to(root)
        connection.execute("UPDATE experiments SET artifact_location = ?", (str(link / "artifacts"),))
    before = places(root)
    relocation.follow(Location(root))
    assert places(root) == before


def test_a_database_that_somebody_holds_is_left_to_who_opens_it(root: Path, tmp_path: Path) -> None:
    """Who opens it has a patience of its own."""
    new = root.rename(tmp_path / "new")
    before = places(new)
    with closing(sqlite3.connect(new / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        relocation.follow(Location(new))
        other.execute("ROLLBACK")
    assert places(new) == before


@pytest.mark.parametrize("change", ["x'ff'", "CAST(x'2f002f617274696661637473' AS TEXT)", "CAST(x'ff' AS TEXT)"])
def test_a_place_that_is_none_is_left(root: Path, change: str) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.execute(f"UPDATE experiments SET artifact_location = {change}")
    before = (root / "mlflow.db").read_bytes()
    relocation.follow(Location(root))
    assert (root / "mlflow.db").read_bytes() == before


def test_a_damaged_database_is_told_by_who_reads_it(root: Path) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'experiments'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (root / "mlflow.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    before = (root / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match=r"cannot open the tracking store .* malformed"):
        RunStore.existing(Location(root)).recorded()
    assert (root / "mlflow.db").read_bytes() == before
