"""What was recorded reads back with its types."""

import math

import pytest

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, frame, recorded_run, runs


def test_a_recorded_run_reads_back(store, rows):
    here = RunStore.open(store.location, experiment="reading")
    config = {
        "encoding": "cable",
        "layers": 2,
        "lr": 1e-3,
        "seq_len": 64,
        "options": {"taps": 4},
        "name": None,
    }
    recorder = Recorder.start(here, "to read", config=config)
    curve = rows({64: 8.0, 128: 9.0, 256: None})
    recorder.curve(curve, train_length=64, encoding="cable", step=10)
    recorder.checkpoint(recorder.folder / "last.ckpt", recorder.folder / "best.ckpt")
    recorder.finish("FINISHED")
    (run,) = runs(here.root, experiment="reading")
    assert (run.run_id, run.name, run.encoding, run.status) == (
        recorder.run_id,
        "to read",
        "cable",
        "FINISHED",
    )
    assert run.config == config
    assert run.train_length == 64
    assert [(row["length"], row["ppl"]) for row in run.curve] == [(64, 8.0), (128, 9.0), (256, None)]
    assert run.checkpoint == recorder.folder / "best.ckpt"
    assert run.heatmaps() == {}


def test_a_run_without_a_curve_has_an_empty_one_and_knows_its_training_length(store, recorder):
    (run,) = [run for run in runs(store.root) if run.run_id == recorder.run_id]
    assert run.curve == []
    assert run.train_length == 64
    assert run.checkpoint is None


def test_a_percent_sign_in_a_root_is_one(tmp_path, rows):
    here = RunStore.open(Location(tmp_path / "100%41"), experiment="reading")
    recorder = Recorder.start(here, "to read", config={"encoding": "cable", "seq_len": 64})
    recorder.curve(rows({64: 8.0}), train_length=64, encoding="cable", step=10)
    recorder.finish("FINISHED")
    (run,) = runs(here.root)
    assert [row["ppl"] for row in run.curve] == [8.0]
    # MLflow makes empty folders for the database's address as it is written.
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()} == {"100%41"}


def test_a_root_without_runs_is_a_users_mistake_and_stays_untouched(tmp_path):
    with pytest.raises(UserError, match="extrapo fit"):
        runs(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_runs_are_one_table(tmp_path, rows):
    store = RunStore.open(Location(tmp_path / "table"))
    for seed, curve in enumerate(({64: 8.0, 2048: 9.5}, {64: 7.0})):
        config = {"encoding": "kerple-log", "seed": seed, "lr": 1e-3, "encoding_options": {"c": 2.0}}
        recorder = Recorder.start(store, f"s{seed}", config=config)
        recorder.curve(rows(curve), train_length=64, encoding="kerple-log", step=9)
        recorder.finish("FINISHED")
    Recorder.start(store, "young", config={"encoding": "rope", "seed": 7})
    table = frame(store.root).set_index("name")
    assert list(table.loc[["s0", "s1"], "ppl@64"]) == pytest.approx([8.0, 7.0])
    assert table.loc["s0", "ppl@2048"] == pytest.approx(9.5)
    assert math.isnan(table.loc["s1", "ppl@2048"])
    assert math.isnan(table.loc["young", "ppl@64"])
    assert table.loc["s0", "encoding_options.c"] == 2.0
    assert table.loc["young", ["status", "encoding", "seed"]].tolist() == ["RUNNING", "rope", 7]
    grouped = table.groupby("encoding")["ppl@64"].mean()
    assert grouped["kerple-log"] == pytest.approx(7.5)


def test_a_run_that_died_before_its_configuration_says_so(store):
    run = store.client.create_run(store.experiment_id, tags={"extrapo.encoding": "rope"})
    with pytest.raises(UserError, match=r"has no config.yaml: it stopped before that was recorded"):
        _ = recorded_run(store, run.info.run_id).config
    store.client.delete_run(run.info.run_id)
