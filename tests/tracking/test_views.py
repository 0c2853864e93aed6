"""The saved views round-trip, follow what is recorded, and can fail without harm."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.tracking import Recorder, RunStore, views
from extrapo.tracking.curves import DOUBLINGS, OVER_T

LENGTHS = ["metrics.`ppl/000064`", "metrics.`ppl/000128`"]


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
    assert views.decode(views.encode("", {"state": tree})) == {"name": "", "state": {"state": tree}}


def test_a_deep_model_fits_the_limit_of_a_tag():
    lengths = [f"ppl/{2**i:06d}" for i in range(6, 18)]
    varied = [f"encoding_options.option_{i}" for i in range(8)]
    contents = views.Contents(lengths, varied, layers=96, drawn=5)
    for view in (views.curves_view(contents), views.heatmaps_view(contents)):
        assert len(views.encode("name", view)) < 5000


def test_the_view_follows_the_runs(experiment, biases, rows):
    shallow = Recorder.start(experiment, "a", config={"encoding": "cable", "steps": 300})
    shallow.heatmaps(0, biases(2))
    shallow.heatmaps(300, biases(2))
    images = [card for card in view(experiment)["state"]["compareRunCharts"] if card["type"] == "IMAGE"]
    assert [card["imageKeys"] for card in images] == [["heatmaps/layer 00"], ["heatmaps/layer 01"]]
    assert {card["step"] for card in images} == {100}

    # Of another number of steps, and of weights: the same key, the same percent.
    options = {"encoding": "rope", "steps": 500, "encoding_options": {"base": 100}}
    deep = Recorder.start(experiment, "b", config=options)
    deep.heatmaps(500, biases(3), kind="weights")
    images = [card for card in view(experiment)["state"]["compareRunCharts"] if card["type"] == "IMAGE"]
    assert len(images) == 3

    deep.curve(rows({64: 8.0, 128: 9.0}), train_length=64, encoding="rope", step=300)
    state = view(experiment)["state"]
    assert state["runsHiddenMode"] == "SHOW_ALL"
    lines = [card for card in state["compareRunCharts"] if card["type"] == "LINE"]
    assert (lines[0]["metricKey"], lines[0]["selectedXAxisMetricKey"]) == ("extrapolation/ppl", DOUBLINGS)
    assert lines[1]["metricKey"] == OVER_T
    assert [card["metricKey"] for card in lines if card["scaleType"] != "log"] == [OVER_T]
    assert lines[1]["range"]["yMin"] > 0
    assert state["compareRunSections"][0]["name"].startswith("perplexity against length")
    expected = ["encoding", "kernel", "layers", "encoding_options.base", "steps", "seed"]
    assert state["selectedColumns"] == [*(f"params.`{key}`" for key in expected), *LENGTHS]
    own = view(experiment, views.RUN + deep.run_id)
    assert (own["name"], deep.run_id in own["state"]["searchFilter"]) == ("", True)
    seeds = view(experiment, views.SEEDS)["state"]
    assert seeds["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "cell"}]


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
