"""The store is made once whatever races for it, explains itself in one line, and finds runs."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from extrapo.errors import MachineError, UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore
from extrapo.tracking import store as store_module


@pytest.mark.slow
def test_four_processes_open_a_fresh_store_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from extrapo.location import Location;"
        "from extrapo.tracking import Recorder, RunStore;"
        "store = RunStore.open(Location(Path(sys.argv[1])));"
        "print(store.experiment_id, Recorder.start(store, 'r', config={'encoding': 'rope'}).run_id)"
    )
    root = tmp_path / "fresh runs"
    command = [sys.executable, "-c", code, str(root)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [racer.communicate() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4, said
    assert {out.split()[0] for out, _ in said} == {"1"}
    assert {error for _, error in said} == {""}
    assert {run.run_id for run in RunStore.open(Location(root)).recorded()} == {out.split()[1] for out, _ in said}


@pytest.mark.slow
def test_importing_the_package_does_not_import_what_is_heavy():
    heavy = ("mlflow", "lightning", "matplotlib", "torch")
    code = f"import sys, extrapo.tracking; print([m for m in {heavy} if m in sys.modules])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "[]"


def test_a_root_that_no_address_can_name_is_not_read_either(store, tmp_path):
    """What writes to it would make another database, of the name up to there."""
    root = tmp_path / "which?"
    root.mkdir()
    shutil.copy(store.location.database, root)
    for opened in (RunStore.existing, RunStore.check_existing, RunStore.open):
        with pytest.raises(UserError, match=r"a database URL ends at the '\?'"):
            opened(Location(root))
    assert list(tmp_path.iterdir()) == [root]


def test_an_option_of_an_address_that_is_none_is_said(store, tmp_path):
    away = Location(tmp_path, f"sqlite:///{store.location.database}?timeout=soon")
    # Whoever reads the file itself has no use for it.
    assert RunStore.existing(away).recorded() == store.recorded()
    with pytest.raises(
        UserError, match=r"cannot open the tracking store .*: could not convert string to float: 'soon'"
    ):
        _ = RunStore.existing(away).client


def test_mlflow_phones_nobody_who_only_reads(store, monkeypatch):
    """It asks the environment when it is loaded, which may be long after the store was opened."""
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    RunStore.existing(store.location)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.slow
@pytest.mark.parametrize(
    "record",
    [
        "measured.record_measured(at, at.folder(run), 'one', {'rows': [], 'blocks': {}})",
        "probes.record_probe(at, run, 'passkey', [], file)",
        "theory.record_theory(at, run, {'rows': [], 'heads': []}, [])",
    ],
)
def test_mlflow_phones_nobody_when_more_is_recorded(store, recorder, tmp_path, record):
    file = tmp_path / "picture.png"
    file.write_bytes(b"")
    code = (
        "import sys; from pathlib import Path; from extrapo.location import Location;"
        "from extrapo.tracking import measured, probes, theory;"
        f"at, run, file = Location(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]); {record};"
        "from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client())"
    )
    # Where it believes that it is tested it is silent in any case.
    known = ("PYTEST", "CI", "GITHUB", "MLFLOW", "DO_NOT_TRACK")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(known)}
    command = [sys.executable, "-c", code, store.root, recorder.run_id, file]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.splitlines()[-1] == "None"


def test_artifacts_lie_in_the_root(store, recorder):
    uri = store.client.get_run(recorder.run_id).info.artifact_uri
    assert Path(uri).is_relative_to(store.root / "artifacts")
    assert (store.root / "mlflow.db").is_file()


def test_opening_again_gives_the_same_experiment_and_another_name_another(store):
    assert RunStore.open(store.location).experiment_id == store.experiment_id
    assert RunStore.open(store.location, experiment="other/one").experiment_id != store.experiment_id


def test_a_database_elsewhere_can_be_named(tmp_path, store):
    again = RunStore.open(Location(tmp_path / "root", f"sqlite:///{store.location.database}"))
    assert again.experiment_id == store.experiment_id


@pytest.mark.parametrize(
    ("root", "uri", "error", "cause"),
    [
        ("file", None, UserError, "is a file"),
        ("file/runs", None, UserError, "is a file"),
        ("what?", None, UserError, "without one"),
        ("/proc/extrapo/runs", None, MachineError, "cannot create"),
        ("runs", "ftp://somewhere", UserError, "is expected"),
        ("runs", "postgresql+nothing://me:secret@localhost/x", UserError, "cannot open"),
        ("runs", "http://127.0.0.1:9", UserError, "no MLflow server answers"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path, root, uri, error, cause):
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=cause) as caught:
        RunStore.open(Location(tmp_path / root, uri))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_database_that_takes_the_connection_and_says_nothing(tmp_path, monkeypatch):
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'extrapo[postgres]'")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql+psycopg://me:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot open the tracking store") as caught:
            RunStore.open(Location(tmp_path / "runs", address), patience=0)
    assert time.monotonic() - began < 15
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_is_found_by_id_prefix_name_and_last(store):
    run = Recorder.start(store, "the-only-one", config={"encoding": "rope"})
    assert store.find(run.run_id) == run.run_id
    assert store.find(run.run_id[:12]) == run.run_id
    assert store.find("the-only-one") == run.run_id
    assert store.find("last") == run.run_id


@pytest.mark.parametrize("rows", [True, False])
def test_many_runs_are_found_at_once_and_only_they_are_read(store, monkeypatch, rows):
    ids = [Recorder.start(store, f"one of {n}, {rows}", config={"encoding": "rope"}).run_id for n in range(4)]
    read = []

    def counted(search):
        def searched(*args, **options):
            found = search(*args, **options)
            read.append(len(found))
            return found

        return searched

    if rows:
        monkeypatch.setattr(store_module, "stored_runs", counted(store_module.stored_runs))
    else:
        monkeypatch.setattr(store_module, "stored_runs", lambda *_, **__: None)
        monkeypatch.setattr(store.client, "search_runs", counted(store.client.search_runs))
    names = [ids[2], ids[0], ids[2]]
    assert [run.run_id for run in store.find_all(names)] == names
    assert store.find(ids[1][:12]) == ids[1]
    assert store.find("last") == ids[3]
    assert read == [2, 1, 1]
    assert [run.run_id for run in store.find_all([ids[0], f"one of 3, {rows}", "last"])] == [ids[0], ids[3], ids[3]]
    with pytest.raises(UserError, match="no run"):
        store.find_all([ids[0], "f" * 32])


def test_a_run_that_is_not_there_names_what_is_near(store):
    Recorder.start(store, "alibi-6l-s0", config={"encoding": "alibi"})
    with pytest.raises(UserError, match="alibi-6l-s0"):
        store.find("alibi-6l-s1")
    run = Recorder.start(store, "another", config={"encoding": "alibi"})
    with pytest.raises(UserError, match="no run"):
        store.find(run.run_id[:3])


def test_a_name_of_two_runs_asks_for_an_id(store):
    twins = [Recorder.start(store, "twin", config={"encoding": "rope"}) for _ in range(2)]
    with pytest.raises(UserError, match="2 runs") as caught:
        store.find("twin")
    assert all(twin.run_id[:8] in str(caught.value) for twin in twins)


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("451aebb31d03", "an older MLflow made it; keep a copy of it, then: mlflow db upgrade sqlite:///"),
        ("ffffffffffff", "a newer MLflow made it; install that one"),
    ],
)
def test_tables_of_another_mlflow_are_told_by_their_age(store, tmp_path, revision, says):
    """MLflow itself calls both out of date, and its command for that knows nothing of a newer one."""
    shutil.copy(store.location.database, tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(UserError, match=says):
        RunStore.open(Location(tmp_path))
