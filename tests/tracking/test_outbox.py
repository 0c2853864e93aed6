"""What is recorded while the store is away lies on the disk, and is delivered once."""

import json
import math
import shutil
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from extrapo.errors import MachineError, UserError
from extrapo.location import UNDELIVERED
from extrapo.tracking import Recorder, deliver_left, heatmaps
from extrapo.tracking.entries import Curve, Destination, End, Heatmaps, Scalars, Tag, of_line, to_line
from extrapo.tracking.outbox import Journal, Outbox, first_of, reason, undelivered

NAMES = st.text(min_size=1, max_size=20)
NUMBERS = st.floats(allow_nan=False, width=32)
ENTRIES = st.one_of(
    st.builds(Scalars, st.dictionaries(NAMES, NUMBERS), st.integers(0, 10**9), st.integers(0, 10**13)),
    st.builds(Tag, NAMES, NAMES),
    st.builds(Heatmaps, st.integers(0, 10**6), st.integers(0, 99), NAMES),
    st.builds(End, st.sampled_from(["FINISHED", "FAILED", "KILLED"]), st.integers(0, 10**13)),
    st.builds(
        Curve,
        st.lists(st.dictionaries(NAMES, NUMBERS | NAMES | st.none()), max_size=3),
        st.integers(1, 99),
        st.integers(0, 99),
        st.dictionaries(NAMES, st.dictionaries(NAMES, st.lists(NUMBERS, max_size=3)), max_size=2),
        st.dictionaries(NAMES, NUMBERS, max_size=2),
    ),
)


@settings(max_examples=30, deadline=None)
@given(ENTRIES, st.data())
def test_an_entry_survives_the_disk_and_a_piece_of_one_is_none(entry, data):
    line = to_line(entry)
    assert "\n" not in line
    assert of_line(line) == entry
    assert of_line(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@settings(max_examples=30, deadline=None)
@given(st.recursive(st.none() | st.booleans() | NUMBERS | NAMES, lambda v: st.lists(v) | st.dictionaries(NAMES, v)))
def test_other_lines_are_no_entries(value):
    assert of_line(json.dumps(value)) is None


def test_pictures_of_a_process_that_was_killed_while_it_deleted_them_are_no_trouble(
    store, recorder, biases, monkeypatch
):
    def killed(folder, ignore_errors):
        for path in sorted(folder.rglob("*.png"))[:1]:
            path.unlink()
            raise KeyboardInterrupt

    entry = Heatmaps(0, 2, "pictures/one")
    heatmaps.draw(recorder.folder / entry.files, "k-cable", 0, biases(2))
    to = Destination(store.client, recorder.run_id, recorder.folder)
    with monkeypatch.context() as patch:
        # The last step before.
        patch.setattr("extrapo.tracking.views.refresh", lambda *_: patch.setattr("shutil.rmtree", killed))
        with pytest.raises(KeyboardInterrupt):
            entry.deliver(to)
    entry.deliver(to)
    heatmaps.draw(recorder.folder / entry.files, "k-cable", 0, biases(2))
    entry.deliver(to)
    assert not (recorder.folder / entry.files).parent.exists()


class Kept:
    """An outbox that keeps what it takes."""

    def __init__(self):
        self.entries = []

    def put(self, entry):
        self.entries.append(entry)


@pytest.mark.parametrize(
    "draw",
    [lambda of, biases: of.heatmaps(15, biases(2)), lambda of, biases: of.looks(15, [], np.arange(4))],
    ids=["heatmaps", "looks"],
)
def test_what_is_drawn_again_is_not_deleted_with_what_was_on_its_way(recorder, biases, monkeypatch, draw):
    """A run that was killed goes on before the step at which it drew; what it had drawn then is being delivered."""
    kept, save = Kept(), np.savez_compressed
    at_work = replace(recorder, outbox=kept)
    to = Destination(recorder.store.client, recorder.run_id, recorder.folder)
    draw(at_work, biases)

    def arrives_before(*arguments, **named):
        kept.entries[0].deliver(to)
        save(*arguments, **named)
        kept.entries[0].deliver(to)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", arrives_before)
        draw(at_work, biases)
    (again,) = (recorder.folder / UNDELIVERED).iterdir()
    assert list(again.glob("*.npz"))
    kept.entries[1].deliver(to)
    assert not list(recorder.folder.glob(f"{UNDELIVERED}/*"))


@settings(max_examples=30, deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_scalars_go_together_and_the_rest_one_by_one(entries):
    left, batches = list(entries), []
    while left:
        batches.append(list(first_of(left)))
        left = left[len(batches[-1]) :]
    assert [entry for batch in batches for entry in batch] == entries
    assert all(len(batch) == 1 or all(isinstance(entry, Scalars) for entry in batch) for batch in batches)


@contextmanager
def at_work(recorder):
    """A process that has the journal, and dies."""
    journal = Journal(recorder.folder)
    yield journal
    journal.close(delivered=False)


def points(recorder, key):
    history = recorder.store.client.get_metric_history(recorder.run_id, key)
    return [(point.step, point.value, point.timestamp) for point in history]


def pictures(recorder):
    return [artifact.path for artifact in recorder.store.client.list_artifacts(recorder.run_id, "images")]


def status(recorder):
    return recorder.store.client.get_run(recorder.run_id).info.status


def everything(recorder, rows, biases):
    """Record all that a training does, from a time on."""
    for step in range(1, 251):
        recorder.record(Scalars({"train/loss": 1.0 / step, "train/lr": 0.5}, step, 1000 + step))
        if step == 100:
            recorder.heatmaps(step, biases(2))
    recorder.tag("extrapo.note", "told")
    recorder.curve(
        rows({64: 8.0, 128: math.inf}), train_length=64, encoding="k-cable", step=250, blocks={64: {"nll": [2.0]}}
    )


def check_everything(recorder):
    assert points(recorder, "train/loss") == [(step, 1.0 / step, 1000 + step) for step in range(1, 251)]
    assert len(points(recorder, "train/lr")) == 250
    assert [(step, value) for step, value, _ in points(recorder, "extrapolation/ppl")] == [(64, 8.0), (128, 1e6)]
    assert len(pictures(recorder)) == 8, "two layers under two keys, large and small"
    run = recorder.store.client.get_run(recorder.run_id)
    assert run.data.tags["extrapo.note"] == "told"
    assert run.data.tags["extrapo.bias_step"] == "100"
    assert run.info.status == "FINISHED"


def test_a_store_that_is_there_has_it_all_when_the_run_ends(recorder, rows, biases):
    told = []
    patient = recorder.patient(told.append)
    everything(patient, rows, biases)
    patient.finish("FINISHED")
    check_everything(recorder)
    assert not any("takes nothing" in line for line in told)
    assert not (recorder.folder / UNDELIVERED).exists()


@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_that_is_deleted_or_moved_ends_the_run_and_nobody_is_sent_to_it(recorder, moved, tmp_path):
    told = []
    to = Destination(MlflowClient("http://127.0.0.1:9"), recorder.run_id, recorder.folder)
    outbox = Outbox(to, Journal(recorder.folder), "http://127.0.0.1:9", told.append, patience=20)
    outbox.put(Scalars({"train/loss": 1.0}, 1, 0))
    recorder.folder.rename(tmp_path / "elsewhere")
    if not moved:
        shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(MachineError, match="deleted or moved while its run went"):
        outbox.put(Scalars({"train/loss": 0.5}, 2, 0))
    began = time.monotonic()
    assert not outbox.close()
    assert time.monotonic() - began < 15, "nothing will take it"
    assert "were deleted or moved with its folder" in told[-1]
    assert not any("they lie in" in line for line in told)
    if moved:
        assert Journal(tmp_path / "elsewhere").left == [Scalars({"train/loss": 1.0}, 1, 0)]


def test_a_store_that_does_not_come_back_is_told_and_its_records_are_delivered_later(
    store, recorder, rows, biases, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = []
    to = Destination(MlflowClient("http://127.0.0.1:9"), recorder.run_id, recorder.folder)
    outbox = Outbox(to, Journal(recorder.folder), "http://me:secret@127.0.0.1:9", told.append, patience=0.5)
    away = Recorder(store, recorder.run_id, outbox)
    began = time.monotonic()
    for step in range(50):
        away.record(Scalars({"train/loss": 1.0}, step, 0))
    # Who waited for the store would wait half a second each time, on any machine.
    assert time.monotonic() - began < 15, "nothing waits"
    outbox.close()
    assert [line.split(" (")[0] for line in told[:1]] == ["http://me:***@127.0.0.1:9 takes nothing"]
    assert "no server answers" in told[0]
    assert "has not taken 50 records" in told[1]
    assert "extrapo deliver" in told[1]
    assert len(told) == 2
    assert undelivered(store.location) == [recorder.folder]
    with at_work(recorder):
        with pytest.raises(UserError, match="at work in another process"):
            Journal(recorder.folder)
        assert deliver_left(store.location, told.append) == {}
    # Its process died in the middle of a line.
    with (recorder.folder / UNDELIVERED / "journal.jsonl").open("a") as journal:
        journal.write('{"kind": "scalars", "val')
    assert deliver_left(store.location, told.append) == {recorder.run_id: 50}
    assert [step for step, *_ in points(recorder, "train/loss")] == list(range(50))
    assert undelivered(store.location) == []
    assert not (recorder.folder / UNDELIVERED).exists()


def test_what_is_delivered_twice_stands_once(store, recorder, rows, biases):
    """As after a kill between the delivery and the note of it."""
    patient = recorder.patient(print)
    everything(patient, rows, biases)
    patient.finish("FINISHED")
    with at_work(recorder) as journal:
        for step in range(200, 251):
            journal.append(Scalars({"train/loss": 1.0 / step, "train/lr": 0.5}, step, 1000 + step))
    again = recorder.patient(print)
    again.heatmaps(100, biases(2))
    again.curve(rows({64: 8.0, 128: math.inf}), train_length=64, encoding="k-cable", step=250)
    again.finish("FINISHED")
    check_everything(recorder)


def test_a_run_that_goes_on_has_not_ended(store, recorder):
    with at_work(recorder) as journal:
        journal.append(Scalars({"train/loss": 3.0}, 1, 0))
        journal.append(End("KILLED", 5))
    patient = recorder.patient(print)
    patient.record(Scalars({"train/loss": 2.0}, 2, 0))
    deadline = time.monotonic() + 20
    while len(points(recorder, "train/loss")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert status(recorder) == "RUNNING"
    patient.finish("FINISHED")
    assert [value for _, value, _ in points(recorder, "train/loss")] == [3.0, 2.0]


def test_a_database_that_another_program_holds_holds_up_nothing(store, recorder):
    patient = recorder.patient(print)
    other = sqlite3.connect(store.location.database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    for step in range(20):
        patient.record(Scalars({"train/loss": 1.0}, step, 0))
    # SQLite itself waits for seconds each time.
    assert time.monotonic() - began < 15
    other.rollback()
    other.close()
    patient.finish("FINISHED")
    assert len(points(recorder, "train/loss")) == 20


def test_a_tag_of_a_run_that_nobody_works_on_waits_for_the_store(recorder, monkeypatch):
    from extrapo.tracking import outbox

    def away(*arguments):
        raise ConnectionError("Connection refused")

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "PATIENCE", 0.1)
        patch.setattr(recorder.store.client, "set_tag", away)
        recorder.later(Tag("extrapo.pruned_at", "7"), said.append)
    assert any("no server answers" in line for line in said)
    assert "extrapo deliver" in said[-1]
    assert recorder.folder in undelivered(recorder.store.location)
    # The next word of the run takes it along.
    recorder.later(Tag("extrapo.trial", "3"), said.append)
    tags = recorder.store.client.get_run(recorder.run_id).data.tags
    assert (tags["extrapo.pruned_at"], tags["extrapo.trial"]) == ("7", "3")
    assert recorder.folder not in undelivered(recorder.store.location)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("(sqlite3.OperationalError) database is locked", "another program holds the database"),
        ("[Errno 111] Connection refused", "no server answers"),
        ("('Connection broken: IncompleteRead(0 bytes read, 2 more expected)', ...)", "the server broke off"),
        ("('Connection aborted.', RemoteDisconnected('Remote end closed ...'))", "the server broke off"),
        ("[Errno 104] Connection reset by peer", "the server broke off"),
        ("database or disk is full", "no space left on device"),
        ("two\n words", "two words"),
        ("", "OSError"),
    ],
)
def test_why_a_store_takes_nothing_is_said_in_a_few_words(fault, told):
    assert reason(OSError(fault)) == told
