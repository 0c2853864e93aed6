"""What is read of a database by its rows is what MLflow says of it."""

import math
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from mlflow.entities import Metric

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, schema
from extrapo.tracking import store as store_module
from extrapo.tracking.rows import stored_runs


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Runs of three experiments: with numbers that are none, odd words, deleted ones, some that others recorded."""
    store = RunStore.open(Location(tmp_path_factory.mktemp("rows") / "full"))
    second = RunStore.open(store.location, "another/one")
    gone = RunStore.open(store.location, "gone")
    for number, of in enumerate((store, second, store, gone, second, store)):
        recorder = Recorder.start(of, f"run {number} – ü", config={"encoding": "rope", "seed": number})
        values = {"ppl/000064": 3.5, "val/loss": math.nan, "infinite": math.inf, "below": -math.inf, "zero": -0.0}
        metrics = [Metric(key, value, 1, step) for key, value in values.items() for step in (1, 3, 2)]
        of.client.log_batch(recorder.run_id, metrics=metrics)
        of.client.set_tag(recorder.run_id, "note", "'; DROP TABLE runs; --\n%")
        recorder.finish("FINISHED")
    of_others = store.client.create_run(store.experiment_id, run_name="of others")
    store.client.log_metric(of_others.info.run_id, "loss", 1.0)
    store.client.delete_run(store.recorded()[-1].run_id)
    store.client.delete_experiment(gone.experiment_id)
    unnamed = store.client.create_run(store.experiment_id, tags={"extrapo.encoding": "", "mlflow.runName": "by tag"})
    with closing(sqlite3.connect(store.location.database)) as database, database:
        database.execute("UPDATE runs SET name = '' WHERE run_uuid = ?", (unnamed.info.run_id,))
        # Of the same moment: then the ids say which comes first.
        database.execute("UPDATE runs SET start_time = 1700000000000 WHERE name LIKE 'run%'")
    return store


@pytest.fixture
def copied(full, tmp_path):
    """Its database once more, to be spoilt."""
    return Path(shutil.copy(full.location.database, tmp_path))


def by_mlflow(store, monkeypatch, **asked):
    """The same as MLflow's own client says it."""
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "stored_runs", lambda *_, **__: None)
        return store.recorded(**asked)


def test_rows_are_what_mlflow_says(full, monkeypatch):
    every = full.recorded()
    # By its rows, and not by MLflow both times.
    assert stored_runs(full.location.database) == every
    assert every[0].name == "by tag"
    assert len(every) == 5
    begins = every[2].run_id[:5]
    ids = [every[3].run_id, every[0].run_id, "f" * 32]
    for asked in (
        {},
        {"experiment": "another/one"},
        {"experiment": "gone"},
        {"experiment": "nothing"},
        {"ids": ids},
        {"ids": ids, "experiment": "extrapo"},
        {"begins": begins},
        {"most": 2},
    ):
        found, expected = full.recorded(**asked), by_mlflow(full, monkeypatch, **asked)
        assert list(map(repr, found)) == list(map(repr, expected)), asked
        for one, other in zip(found, expected, strict=True):
            assert (one.tags, one.params, one.artifacts) == (other.tags, other.params, other.artifacts)
            # NaN is none of its kind.
            assert repr(sorted(one.metrics.items())) == repr(sorted(other.metrics.items()))
            assert {type(value) for value in one.metrics.values()} <= {float}


@pytest.mark.slow
def test_nothing_is_written_and_no_mlflow_is_loaded(full):
    before = full.location.database.read_bytes(), sorted(full.root.iterdir())
    code = (
        "import sys; from pathlib import Path; from extrapo.tracking import runs;"
        "print(len(runs(Path(sys.argv[1]))), [m for m in ('mlflow', 'sqlalchemy', 'torch') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code, str(full.root)], capture_output=True, text=True, check=True)
    assert said.stdout == "5 []\n"
    assert (full.location.database.read_bytes(), sorted(full.root.iterdir())) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alembic_version SET version_num = '451aebb31d03'",
        "UPDATE alembic_version SET version_num = 'ffffffffffff'",
        "DELETE FROM alembic_version",
        "DROP TABLE latest_metrics",
        "ALTER TABLE runs RENAME COLUMN artifact_uri TO place",
    ],
)
def test_where_the_tables_are_not_those_that_are_known_mlflow_is_asked(copied, change):
    with closing(sqlite3.connect(copied)) as database, database:
        database.execute(change)
    assert stored_runs(copied) is None


@pytest.mark.parametrize("reader", ["rows", "mlflow"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE runs SET start_time = NULL", "start_time cannot be None|what the store says of it is damaged"),
        ("UPDATE runs SET start_time = 'soon'", "run [0-9a-f]{8}: what the store says of it is damaged"),
        ("UPDATE runs SET status = NULL", "status cannot be None|what the store says of it is damaged"),
        ("UPDATE runs SET name = x'ff'", "run [0-9a-f]{8}: what the store says of it is damaged"),
        ("UPDATE params SET value = x'ff'", "run [0-9a-f]{8}: what the store says of it is damaged"),
        ("UPDATE params SET value = CAST(x'ff' AS TEXT)", "decode byte|decode to UTF-8"),
        ("UPDATE latest_metrics SET value = 'much'", "run [0-9a-f]{8}: what the store says of it is damaged"),
    ],
)
def test_what_is_of_another_kind_is_one_line(copied, monkeypatch, reader, change, reason):
    """SQLite takes any value in any column, and a damaged byte makes one of another."""
    with closing(sqlite3.connect(copied)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.execute(change)
    if reader == "mlflow":
        monkeypatch.setattr(store_module, "stored_runs", lambda *_, **__: None)
    copied.rename(copied.parent / "mlflow.db")
    with pytest.raises(UserError, match=reason) as told:
        RunStore(Location(copied.parent)).recorded()
    assert "\n" not in str(told.value)


def test_a_byte_of_an_id_that_is_damaged_is_no_traceback(copied):
    """The ids stand in a table and in several indices of it, and then these do not agree."""
    run_id, whole = stored_runs(copied)[-1].run_id, copied.read_bytes()
    found = []
    for at in re.finditer(run_id.encode(), whole):
        copied.write_bytes(whole[: at.end() - 1] + b"Z" + whole[at.end() :])
        with suppress(UserError):
            found.append(stored_runs(copied))
    # Where they are read from a table alone, what it has of the run belongs to nobody.
    assert None in found
    assert [] not in found


def test_a_run_without_a_name_has_an_empty_one(copied, monkeypatch):
    with closing(sqlite3.connect(copied)) as database, database:
        database.execute("UPDATE runs SET name = NULL")
        database.execute("DELETE FROM tags WHERE key = 'mlflow.runName'")
    store = RunStore(Location(copied.parent))
    assert [run.name for run in store.recorded()] == [""] * 5
    assert list(map(repr, store.recorded())) == list(map(repr, by_mlflow(store, monkeypatch)))
    with pytest.raises(UserError, match="no run 'some'"):
        store.find("some")


def test_an_experiment_whose_name_is_no_text_has_no_runs(full):
    assert full.recorded("\udcff") == []


def test_where_the_database_is_held_mlflow_is_asked(copied, monkeypatch):
    monkeypatch.setattr("extrapo.tracking.rows.PATIENCE", 0.01)
    with closing(sqlite3.connect(copied)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert stored_runs(copied) is None
    assert len(stored_runs(copied)) == 5


def test_a_database_of_another_mlflow_is_told_by_who_reads_it(copied):
    with closing(sqlite3.connect(copied)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(UserError, match="a newer MLflow made it"):
        RunStore.existing(Location(copied.parent)).recorded()


def test_the_newest_revision_is_the_one_that_mlflow_makes(copied):
    with closing(sqlite3.connect(copied)) as database:
        (made,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert [one for one in schema.revisions() if schema.is_newest(one)] == [made]
    assert not schema.is_newest("451aebb31d03")
