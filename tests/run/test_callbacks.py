"""What happens beside the training: when biases are drawn, and that looking changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import change

from extrapo.config import GPTConfig, RunConfig
from extrapo.gpt import GPT
from extrapo.run.callbacks import Speed, drawing_steps, evaluating, has_bias, is_recorded
from extrapo.run.fit import fit
from extrapo.training import LanguageModel


@pytest.mark.parametrize(
    ("times", "steps", "drawn"), [(1, 9, [9]), (2, 9, [0, 9]), (3, 8, [0, 4, 8]), (3, 9, [0, 4, 9])]
)
def test_biases_are_drawn_evenly_from_the_start_to_the_end(times: int, steps: int, drawn: list[int]) -> None:
    assert drawing_steps(times, steps) == drawn


def test_looking_leaves_the_mode_as_it_was() -> None:
    module = LanguageModel({"layers": 1, "heads": 2, "dim": 16, "vocab_size": 11})
    for training in (True, False):
        module.train(training)
        with evaluating(module):
            assert not module.training
        assert module.training is training


def test_drawing_does_not_change_what_is_trained(small: RunConfig) -> None:
    config = change(small, dropout=0.2, lengths=(32,))
    drawn, plain = (fit(change(config, heatmaps=heatmaps, root=f"{small.root}-{heatmaps}")) for heatmaps in (4, 0))
    weights = [torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (drawn, plain)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_bias_is_what_is_not_zero_at_or_below_the_diagonal() -> None:
    future = np.triu(np.full((1, 4, 4), -np.inf), 1)
    assert not has_bias([future])
    assert has_bias([future, future - 1])


def test_a_window_is_a_bias_to_see() -> None:
    """It adds nothing, but masks keys."""
    tokens = torch.zeros(1, 16, dtype=torch.int64)
    for encoding, options, seen in [("rope+window", {"window": {"window": 4}}, True), ("rope", {}, False)]:
        shape = GPTConfig(encoding=encoding, encoding_options=options, layers=1, heads=2, dim=16, vocab_size=8)
        assert has_bias([bias[0].numpy() for bias in GPT(shape).biases(tokens)]) == seen


def test_speed_before_the_second_step_is_unknown(small: RunConfig) -> None:
    assert Speed(small.resolved()).tokens_per_second == 0.0


@given(steps=st.integers(1, 60), every=st.integers(1, 70))
def test_the_first_and_the_last_step_are_always_recorded(steps: int, every: int) -> None:
    config = RunConfig(steps=steps, log_every=every).resolved()
    recorded = [step for step in range(1, steps + 1) if is_recorded(step, config)]
    assert {recorded[0], recorded[-1]} == {1, steps}
    assert {step for step in recorded if step not in (1, steps)} == set(range(every, steps + 1, every)) - {1, steps}
