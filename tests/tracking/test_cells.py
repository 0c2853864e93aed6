"""Cells: one run each, mean and spread over seeds, made anew only where there is another seed."""

import math
from statistics import fmean, stdev

import pytest

from extrapo.figures import colour
from extrapo.tracking import Recorder, RunStore, views
from extrapo.tracking.cells import HIGH, LOW, SUFFIX, VIEW
from extrapo.tracking.curves import DOUBLINGS, OVER_T
from extrapo.tracking.pages import bring_up_to_date

#: Loss at 64 and 128 by encoding, layers and seed.
LOSSES = {
    ("alibi", 2, 0): (2.0, 2.1),
    ("alibi", 2, 1): (2.2, 2.4),
    ("alibi", 4, 0): (1.9, 1.9),
    ("k-cable", 2, 0): (2.0, 1.9),
}


@pytest.fixture(scope="module")
def experiment(store):
    return RunStore.open(store.location, experiment="of cells")


@pytest.fixture(scope="module")
def add(experiment, rows):
    def record(encoding, layers, seed, losses, **settings):
        config = {"encoding": encoding, "layers": layers, "seed": seed, "seq_len": 64, **settings}
        recorder = Recorder.start(experiment, f"{encoding}-{layers}l-s{seed}", config=config)
        curve = rows({length: math.exp(nll) for length, nll in zip((64, 128), losses, strict=True)})
        recorder.curve(curve, train_length=64, encoding=encoding, step=300)
        recorder.finish("FINISHED")
        return recorder

    return record


@pytest.fixture(scope="module")
def cells(experiment, add):
    for (encoding, layers, seed), losses in LOSSES.items():
        add(encoding, layers, seed, losses)
    return bring_up_to_date(experiment, experiment.experiment_id)


def found(experiment, cells):
    return {run.info.run_name: run for run in experiment.runs_of(cells)}


def test_a_cell_holds_the_mean_and_the_spread_over_its_seeds(experiment, cells):
    of_cell = found(experiment, cells)
    assert sorted(of_cell) == ["alibi, 2 layers", "alibi, 4 layers", "k-cable, 2 layers"]
    run = of_cell["alibi, 2 layers"]
    assert run.data.tags[views.CELL] == "alibi, 2 layers, T 64"
    assert run.data.tags["mlflow.runColor"] == colour("alibi")
    assert run.data.params["seeds"] == "2"
    losses = [LOSSES["alibi", 2, seed][1] for seed in (0, 1)]
    mean, spread = fmean(losses), stdev(losses)
    expected = {
        "extrapolation/ppl": math.exp(mean),
        LOW: math.exp(mean - spread),
        HIGH: math.exp(mean + spread),
        OVER_T: math.exp(mean - 2.1),
        DOUBLINGS: 1.0,
    }
    for key, value in expected.items():
        points = {p.step: p.value for p in experiment.client.get_metric_history(run.info.run_id, key)}
        assert points[128] == pytest.approx(value)
    assert run.data.tags["ppl 128"] == f"{math.exp(mean):.2f} ± {math.exp(mean) * math.expm1(spread):.2f}"


def test_cells_are_no_runs_of_ours(experiment, cells):
    assert len(experiment.recorded("of cells")) == len(LOSSES)
    assert experiment.recorded(f"of cells{SUFFIX}") == []


def test_another_seed_makes_its_cell_anew_and_leaves_the_others(experiment, cells, add):
    before = {name: run.info.run_id for name, run in found(experiment, cells).items()}
    add("k-cable", 2, 1, (2.1, 2.0))
    assert bring_up_to_date(experiment, experiment.experiment_id) == cells
    after = {name: run.info.run_id for name, run in found(experiment, cells).items()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"k-cable, 2 layers"}


def test_the_table_has_the_lengths_as_columns(experiment, cells):
    tags = experiment.client.get_experiment(cells).tags
    columns = views.decode(tags[views.TAG + VIEW])["state"]["selectedColumns"]
    assert columns == ["params.`seeds`", "tags.`ppl 64`", "tags.`ppl 128`"]


def test_a_run_from_before_there_were_cells_gets_its_own(experiment, cells, add):
    old = add("rope", 2, 0, (2.0, 3.0))
    client = experiment.client
    client.delete_tag(old.run_id, views.CELL)
    bring_up_to_date(experiment, experiment.experiment_id)
    assert client.get_run(old.run_id).data.tags[views.CELL] == "rope, 2 layers, T 64"
    assert "rope, 2 layers" in found(experiment, cells)


def test_what_all_cells_share_is_no_part_of_their_names(experiment, cells, add):
    add("rope", 2, 0, (2.0, 3.0), steps=400)
    bring_up_to_date(experiment, experiment.experiment_id)
    assert {"rope, 2 layers", "rope, 2 layers, 400 steps"} <= set(found(experiment, cells))
