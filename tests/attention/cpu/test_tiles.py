"""Which attention tiles on a CPU serve, and that all cores leave the results of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from outcomes import DIM, HEAD_DIM, HEADS, SCALE, assert_near, draw, encoded_outcome, layer, threads
from torch import Tensor

from extrapo.attention.cpu.tiles import CPUTiles
from extrapo.encodings import DistanceBias, Rowwise

BACKEND = CPUTiles()


@pytest.mark.parametrize("name", ["k-cable", "cope", "fire"])
def test_it_serves_all_but_one_query(name: str) -> None:
    q = draw(1, HEADS, 9, HEAD_DIM)
    bias = layer(name).encode(q, q, q, x=draw(1, 9, DIM)).bias
    assert BACKEND.serves(bias, q, q)
    assert not BACKEND.serves(bias, q[:, :, :1], q)
    assert not BACKEND.serves(bias, q.to("meta"), q.to("meta"))


@pytest.mark.parametrize("name", ["alibi", "k-cable", "adaptive", "fire", "cope", "window+k-cable"])
@given(past=st.integers(0, 12), new=st.integers(2, 12), rows=st.sampled_from([1, 2, 4, 8]))
@example(past=0, new=7, rows=2)
@example(past=9, new=2, rows=4)
@settings(max_examples=4, deadline=None)
def test_equals_the_reference(name: str, past: int, new: int, rows: int, tile_rows: Any) -> None:
    made = layer(name)
    with tile_rows(rows):
        got = encoded_outcome(made, "cpu-tiles", new, past)
    assert_near(got, encoded_outcome(made, "reference", new, past), 1e-9)


@pytest.mark.parametrize("name", ["k-cable", "kerple-log", "cable-weighted", "adaptive", "cope", "rope+window"])
def test_threads_change_nothing(name: str, tile_rows: Any) -> None:
    """Three workers for seven tiles give the values and gradients of one, and leave the number of threads as it was."""
    made, results = layer(name), []
    for count in (1, 3):
        with threads(count), tile_rows(2):
            results.append(encoded_outcome(made, "cpu-tiles", 13))
            assert torch.get_num_threads() == count
    assert_near(results[1], results[0], 1e-12)


@pytest.mark.parametrize("name", ["k-cable", "cope"])
def test_every_run_is_the_same(name: str, tile_rows: Any) -> None:
    with threads(2), tile_rows(4):
        first, second = (
            encoded_outcome(layer(name, torch.float32), "cpu-tiles", 90, dtype=torch.float32) for _ in range(2)
        )
    assert all(torch.equal(x, second[name]) for name, x in first.items())


@pytest.mark.parametrize("name", ["k-cable", "adaptive"])
def test_only_what_is_trained_gets_a_gradient(name: str, tile_rows: Any) -> None:
    made = layer(name).requires_grad_(False)
    x, q = draw(1, 5, DIM), draw(1, HEADS, 5, HEAD_DIM)
    k = q.clone().requires_grad_()
    with tile_rows(2):
        BACKEND(q, k, q, made.bias(x).bind(q, k), scale=SCALE).sum().backward()  # type: ignore[no-untyped-call]
    assert k.grad is not None
    assert q.grad is None


@pytest.mark.parametrize("name", ["cable", "k-cable", "alibi", "nope", "adaptive"])
def test_bfloat16_stays_near_float32(name: str, tile_rows: Any) -> None:
    """Off by at most 0.02 for outputs of size about 2: bfloat16 keeps 8 bits (measured: 0.004 to 0.008)."""
    bias = layer(name, torch.float32).bias(draw(1, 96, DIM, dtype=torch.float32))
    q, k, v = (draw(1, HEADS, 96, HEAD_DIM, seed=seed, dtype=torch.bfloat16) for seed in (1, 2, 3))
    with tile_rows(32):
        got = BACKEND(q, k, v, bias, scale=SCALE)
        exact = BACKEND(q.float(), k.float(), v.float(), bias, scale=SCALE)
    assert got.dtype == torch.bfloat16
    assert (got.float() - exact).abs().max() < 0.02


def test_bfloat16_inputs_do_not_round_the_positions() -> None:
    # At position 20,000 bfloat16 steps by 128: rounded positions would all but erase the near bias.
    bias = layer("alibi", torch.float32).bias(torch.zeros(1, 20_000, DIM))
    assert isinstance(bias, DistanceBias)
    past = replace(bias, queries=bias.queries[..., -8:])
    q, k = torch.zeros(1, HEADS, 8, HEAD_DIM), torch.zeros(1, HEADS, 20_000, HEAD_DIM)
    v = draw(1, HEADS, 20_000, HEAD_DIM, dtype=torch.float32)
    exact = BACKEND(q, k, v, past, scale=SCALE)
    got = BACKEND(q.bfloat16(), k.bfloat16(), v.bfloat16(), past, scale=SCALE)
    assert (got.float() - exact).abs().max() < 0.005


@dataclass(frozen=True)
class Broken(Rowwise):
    """Whose logits cannot be made."""

    length: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, self.length, self.length

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        raise ZeroDivisionError


def test_an_error_in_a_thread_is_raised(tile_rows: Any) -> None:
    q = draw(1, HEADS, 8, HEAD_DIM)
    with threads(2), tile_rows(2), pytest.raises(ZeroDivisionError):
        BACKEND(q, q, q, Broken(8), scale=SCALE)
