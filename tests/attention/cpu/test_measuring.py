"""Measuring: each back end by itself, nothing moved that is not its own, and which of two times counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import Backend, Verdict
from extrapo.attention.cpu.measuring import HOPELESS, ROUNDS, Sample, measure, seconds, trains
from extrapo.attention.fold import Fold
from extrapo.attention.tiles import Tiles
from extrapo.encodings import Bias
from extrapo.encodings.core.bias import Elementwise

SCALE = 0.4


class Noted(Backend):
    """Tiles, of which it notes what they were given; so many rounds of them in one call."""

    name = "noted"

    def __init__(self, rounds: int = 1) -> None:
        self.rounds, self.calls = rounds, list[tuple[bool, bool, bool]]()

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        return Verdict(True, "always")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        self.calls.append((torch.is_grad_enabled(), q.requires_grad, any(x.requires_grad for x in bias.tensors())))
        for _ in range(self.rounds):
            out = Tiles()(q, k, v, bias, scale=scale)
        return out


def drawn(name: str = "cable", length: int = 24, **options: Any) -> tuple[Elementwise, Tensor, Tensor]:
    torch.manual_seed(0)
    made = encodings.create(name, heads=2, head_dim=4, dim=8, **options)
    q, k = torch.randn(2, 1, 2, length, 4, requires_grad=True).unbind(0)
    bias = made.bias(torch.randn(1, length, 8))
    assert isinstance(bias, Elementwise)
    return bias, q, k


def test_both_ways_where_something_is_trained_and_no_gradient_is_left() -> None:
    bias, q, k = drawn()
    noted = Noted()
    before = torch.get_rng_state()
    found = measure([noted, Fold()], bias, q, k)
    assert set(found) == {"noted", "fold"}
    assert all(x > 0 for x in found.values())
    assert set(noted.calls) == {(True, True, True)}
    assert torch.equal(torch.get_rng_state(), before), "the model would draw other numbers"
    assert all(x.grad is None for x in (q, k, *bias.tensors()) if x.is_leaf)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_forward_alone_in_evaluation(mode: Any) -> None:
    with mode():
        bias, q, k = drawn()
        assert not trains(bias, q, k)
        noted = Noted()
        measure([noted, Fold()], bias, q, k)
    assert set(noted.calls) == {(False, False, False)}


def test_rounds_are_few_and_the_hopeless_are_left_out() -> None:
    bias, q, k = drawn()
    fast, slow = Noted(), Noted(rounds=int(20 * HOPELESS))
    slow.name = "slow"  # type: ignore[misc]
    found = measure([fast, slow], bias, q, k)
    assert found["noted"] < found["slow"]
    assert len(slow.calls) == 2, "one to warm up, one that counts"
    assert 2 <= len(fast.calls) <= ROUNDS + 1


def test_where_others_hold_the_cores_the_time_on_them_counts() -> None:
    quiet = {"a": Sample(1.0, 0.9), "b": Sample(1.2, 0.5)}
    assert seconds(quiet) == {"a": 1.0, "b": 1.2}, "b leaves cores idle"
    busy = {"a": Sample(5.0, 0.9), "b": Sample(4.0, 1.1)}
    assert seconds(busy) == {"a": 0.9, "b": 1.1}
