"""The saved views round-trip, follow what is recorded, and can fail without harm."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.tracking import Recorder, RunStore, views


@pytest.fixture(scope="module")
def experiment(store):
    return RunStore.open(store.location, experiment="views")


def view(store, key=views.CURVES):
    value = store.client.get_experiment(store.experiment_id).tags.get(views.TAG + key)
    return None if value is None else views.decode(value)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda t: st.lists(t) | st.dictionaries(st.text(), t)))
def test_a_view_reads_back(tree):
    found = views.decode(views.encode("name", {"state": tree}))
    assert found["name"] == "name"
    assert found["state"] == {"state": tree}


def test_a_deep_model_fits_the_limit_of_a_tag():
    lengths = [f"ppl/{2**i:06d}" for i in range(6, 18)]
    assert len(views.encode("name", views.curves_view(lengths, runs=5, layers=96, step=100_000))) < 5000


def test_the_view_follows_the_runs(experiment, biases, rows):
    shallow = Recorder.start(experiment, "a", config={"encoding": "cable"})
    shallow.heatmaps(0, biases(2))
    shallow.heatmaps(300, biases(2))
    state = view(experiment)["state"]
    images = [card for card in state["compareRunCharts"] if card["type"] == "IMAGE"]
    assert [card["imageKeys"] for card in images] == [["bias/layer 00"], ["bias/layer 01"]]
    assert {card["step"] for card in images} == {300}

    deep = Recorder.start(experiment, "b", config={"encoding": "rope"})
    deep.heatmaps(0, biases(3))
    images = [card for card in view(experiment)["state"]["compareRunCharts"] if card["type"] == "IMAGE"]
    assert len(images) == 3
    assert {card["step"] for card in images} == {300}

    deep.curve(rows({64: 8.0, 128: 9.0}), train_length=64, encoding="rope", step=300)
    state = view(experiment)["state"]
    line = state["compareRunCharts"][0]
    assert (line["metricKey"], line["xAxisScaleType"]) == ("extrapolation/ppl", "log")
    assert "metrics.`ppl/000128`" in state["selectedColumns"]
    assert state["compareRunSections"][0]["name"] == "perplexity against length"
    assert view(experiment, views.SEEDS)["state"]["groupBy"]["groupByKeys"][0]["groupByData"] == "encoding"


def test_a_view_that_still_fits_is_not_written_again(experiment, biases):
    run = Recorder.start(experiment, "c", config={"encoding": "rope"})
    run.heatmaps(300, biases(1))
    before = view(experiment)
    views.refresh(experiment.client, run.run_id)
    assert view(experiment) == before


def test_a_view_that_cannot_be_written_is_only_a_warning(store, caplog):
    with caplog.at_level(logging.WARNING):
        views.refresh(store.client, "no such run")
    assert "saved view" in caplog.text
