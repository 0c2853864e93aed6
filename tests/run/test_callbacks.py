"""What happens beside the training: when biases are drawn, and that looking changes nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import change

from extrapo import attention
from extrapo.attention import Verdict
from extrapo.attention.tiles import Tiles
from extrapo.config import GPTConfig, RunConfig
from extrapo.encodings import Bias
from extrapo.gpt import GPT
from extrapo.run import speed as speed_module
from extrapo.run.callbacks import Products, drawing_steps, evaluating, has_bias
from extrapo.run.fit import fit
from extrapo.run.reporter import Silent
from extrapo.run.speed import Speed, is_recorded
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


class Device:
    """What a callback asks of a module and of a trainer on a GPU, of which there is none here."""

    device = torch.device("cuda")
    precision = "bf16-mixed"
    global_step = 0

    def log(self, *_: Any, **__: Any) -> None:
        pass


def test_the_speed_of_a_gpu_is_read_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of a step at once, and takes a second for it; then validation waits for what is left."""
    clock, left = [0.0], [0.0]

    def synchronize(device: torch.device) -> None:
        clock[0], left[0] = clock[0] + left[0], 0.0

    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    monkeypatch.setattr(speed_module.time, "perf_counter", lambda: clock[0])
    config = RunConfig(batch_size=25, seq_len=4, steps=100, log_every=4).resolved()
    speed, gpu = Speed(config), Device()
    seen: Any = (gpu, gpu)
    speed.on_train_start(*seen)
    for step in range(1, 8):
        speed.on_train_batch_start(*seen, None, step)
        left[0] += 1.0
        gpu.global_step = step
        speed.on_train_batch_end(*seen, None, None, step)
    speed.on_validation_start(*seen)
    assert speed.tokens_per_second == pytest.approx(100.0)


def test_products_have_fewer_digits_while_a_gpu_trains_in_half_precision() -> None:
    products, gpu = Products(), Device()
    seen: Any = (gpu, gpu)
    before = torch.get_float32_matmul_precision()
    products.on_train_start(*seen)
    assert torch.get_float32_matmul_precision() == "high"
    products.on_train_end(*seen)
    assert torch.get_float32_matmul_precision() == before
    gpu.precision = "32-true"
    products.on_train_start(*seen)
    assert torch.get_float32_matmul_precision() == before


class Untrained(Tiles):
    """It pays where nothing is trained."""

    name = "untrained"

    def pays(self, bias: Bias, q: torch.Tensor, k: torch.Tensor) -> Verdict:
        return Verdict(not torch.is_grad_enabled(), "nothing is trained")


def test_what_serves_in_evaluation_is_said_where_it_is_something_else(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Said(Silent):
        lines: ClassVar[list[str]] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    monkeypatch.setattr(attention, "BACKENDS", (Untrained(), *attention.BACKENDS))
    result = fit(change(small, steps=2, lengths=(32,), heatmaps=0), Said())
    about = [line for line in Said.lines if line.startswith("attention")]
    assert about[0].startswith(f"attention: {result.summary()['impl']} (")
    assert about[1:] == ["attention, in evaluation: untrained (blocks of query rows, linear memory)"]
