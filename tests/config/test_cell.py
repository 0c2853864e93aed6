"""A cell tells all that runs differ in but the seed, and nothing that follows from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.config import RunConfig
from extrapo.config.cell import cell_name, cell_settings
from extrapo.config.naming import WITHOUT_RESULT

#: A value of each kind that a run does not have by default.
OTHERS = {
    "kernel": "log",
    "encoding": "alibi",
    "layers": 4,
    "dim": 96,
    "lr": 1e-3,
    "seq_len": 64,
    "steps": 400,
    "batch_size": 3,
    "dropout": 0.1,
    "data": "text:a",
    "protocol": "sliding",
    "encoding_options": {"taps": 8},
    "init": "last",
    "precision": "bf16-mixed",
}


def name(**settings):
    return cell_name(RunConfig(**settings).resolved().model_dump(mode="json"))


@given(
    st.integers(0, 2**31 - 1), st.dictionaries(st.sampled_from(["seed", "log_every", "val_every"]), st.integers(1, 9))
)
def test_the_seed_and_what_changes_no_result_are_not_told(seed, others):
    assert name(**{"seed": seed, **others, "root": "elsewhere", "name": "mine"}) == name()


@given(st.sets(st.sampled_from(sorted(OTHERS)), max_size=4), st.sets(st.sampled_from(sorted(OTHERS)), max_size=4))
def test_two_runs_share_a_cell_if_and_only_if_they_share_their_settings(mine, yours):
    names = [name(**{key: OTHERS[key] for key in keys}) for keys in (mine, yours)]
    assert (names[0] == names[1]) == (mine == yours)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "k-cable, 6 layers"),
        ({"encoding": "cable", "kernel": "log", "layers": 4}, "cable, kernel log, 4 layers"),
        ({"encoding_options": {"taps": 8}, "steps": 50}, "k-cable, 6 layers, taps 8, 50 steps"),
        ({"heads": 8}, "k-cable, 6 layers, dim 256"),
        ({"init": "abcd"}, "k-cable, 6 layers, continued"),
    ],
)
def test_a_cell_is_told_in_words(settings, told):
    assert name(**settings) == told


def test_what_follows_from_other_settings_is_not_told():
    assert cell_settings(RunConfig(layers=12).resolved().model_dump()) == {"encoding": "k-cable", "layers": 12}


def test_what_is_left_out_are_settings():
    assert set(RunConfig.model_fields) >= WITHOUT_RESULT
