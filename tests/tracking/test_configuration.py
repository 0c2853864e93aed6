"""A configuration becomes parameters that MLflow takes, whatever is in it, and a file that reads back."""

from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from extrapo.tracking.configuration import flatten

leaves = st.one_of(st.integers(), st.none())
trees = st.recursive(leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)


def count(tree):
    return sum(count(value) if isinstance(value, dict) else 1 for value in tree.values())


@given(st.dictionaries(st.sampled_from("abc"), trees))
def test_flattening_keeps_every_leaf_and_nothing_else(tree):
    flat = list(flatten(tree))
    assert len(flat) == count(tree)
    assert not any(isinstance(value, dict) for _, value in flat)


def test_nesting_is_dots():
    assert dict(flatten({"a": {"b": {"c": 1}}, "d": (1, 2), "e": {}})) == {"a.b.c": 1, "d": (1, 2)}


def test_long_values_odd_names_and_many_parameters_are_taken(store, recorder):
    config = {
        "long": "x" * 9000,
        "rope+k-cable": {"taps": 4},
        "path": Path("/tmp/text"),
        "none": None,
        "empty": "",
        **{f"p{i:03d}": i for i in range(250)},
    }
    recorder.config(config)
    params = store.client.get_run(recorder.run_id).data.params
    assert params["long"] == "x" * 6000
    assert params["rope_k-cable.taps"] == "4"
    assert params["none"] == "None"
    assert params["p249"] == "249"
    written = yaml.safe_load(Path(store.client.download_artifacts(recorder.run_id, "config.yaml")).read_text())
    assert written["rope+k-cable"] == {"taps": 4}
    assert written["path"] == "/tmp/text"
    assert written["none"] is None
    assert len(written["long"]) == 9000
