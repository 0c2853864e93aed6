"""What decoding keeps of positions: never anything else than the parallel pass would find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extrapo import GPT, GPTConfig, encodings
from extrapo.attention.decode import affine_row
from extrapo.encodings import Additive, Affine, Bias, Elementwise, Logit
from extrapo.encodings.core.cache import Cache
from extrapo.encodings.core.decoding import NEAR, DistanceRowCache, PositionCache
from extrapo.encodings.core.distance import DistanceBias

SHAPE: dict[str, Any] = {"heads": 2, "head_dim": 4, "dim": 8}


@given(sizes=st.lists(st.sampled_from([1, 1, 1, 2, 40, 70]), min_size=1, max_size=12), asks=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_cache_is_its_positions(sizes: list[int], asks: int) -> None:
    parts = [torch.rand(2, 3, size, dtype=torch.float64).cumsum(-1) + 1e6 for size in sizes]
    cache = PositionCache(Cache(parts[0]), torch.float32)
    for step, part in enumerate(parts[1:]):
        cache = cache.append(part)
        if asks and step % asks == 0:
            cache.near()
    assert torch.equal(cache.keys, torch.cat(parts, dim=-1))
    assert torch.equal(cache.last, parts[-1][..., -1:])
    near, wide = cache.near(), cache.keys
    distance = (near[..., -1:] - near).double()
    torch.testing.assert_close(distance, wide[..., -1:] - wide, rtol=1e-6, atol=1e-4)


def test_near_stays_near() -> None:
    """After a million tokens' worth of distance, steps of 0.7 are seen as such, and by less than 64 of them."""
    cache = PositionCache(Cache(torch.full((1, 1, 1), 1e6, dtype=torch.float64)), torch.float32)
    cache.near()
    for _ in range(3 * NEAR):
        cache = cache.append(cache.last + 0.7)
        near = cache.near()
        assert float(near[..., -1]) <= 0.7 * NEAR + 1e-3
        assert float(near[..., -1] - near[..., -2]) == pytest.approx(0.7, abs=1e-5)


def test_two_texts_go_on_from_one_cache() -> None:
    start = PositionCache(Cache(torch.arange(5, dtype=torch.float64).view(1, 1, -1)), torch.float32)
    start.near()
    token = torch.full((1, 1, 1), 5.0, dtype=torch.float64)
    start = start.append(token)
    left, right = start.append(token + 1), start.append(token + 3)
    left = left.append(token + 2)
    assert left.keys.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert right.keys.flatten().tolist() == [0, 1, 2, 3, 4, 5, 8]
    for cache in (left, right):
        assert torch.equal(cache.near() - cache.near()[..., -1:], (cache.keys - cache.last).float())


@dataclass(frozen=True)
class Linear(Additive):
    """s q.k - slope n."""

    def bias(self, *factors: Tensor) -> Tensor:
        row, column, slope = factors
        return -slope * (row + column)


@dataclass(frozen=True)
class Hotter(Affine):
    """s q.k (1 + n), and n on top."""

    def temperature(self, *factors: Tensor) -> Tensor:
        row, column = factors
        return 1 + row + column

    def bias(self, *factors: Tensor) -> Tensor:
        row, column = factors
        return row + column


@dataclass(frozen=True)
class Bent(Logit):
    """No line: the score is squared."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score.square()


def test_rows_are_the_formula_of_its_numbers() -> None:
    rows, like = DistanceRowCache(), torch.empty(0)
    slope = torch.tensor([[[1.0]], [[0.5]]])
    for n in (1, 2, 3, 9):
        line = rows.line(Linear(), n, (slope,), like)
        assert line is not None
        assert line[0] is None
        assert torch.equal(line[1], -slope * torch.arange(n - 1, -1, -1.0).view(1, 1, 1, -1))
    assert rows.line(Linear(), 9, (slope.clone(),), like) is not None
    assert rows.line(Linear(), 9, (2 * slope,), like) is None
    t, b = rows.line(Hotter(), 3, (), like)  # type: ignore[misc]
    assert t is not None
    assert t.flatten().tolist() == [3, 2, 1]
    assert b.flatten().tolist() == [2, 1, 0]
    assert rows.line(Bent(), 3, (), like) is None


def row_of(bias: Bias) -> Tensor:
    """What decoding adds to the only query's scores, which nothing else changes."""
    assert isinstance(bias, Elementwise)
    found = affine_row(bias)
    assert found is not None
    temperature, added = found
    assert temperature is None
    return added


@torch.no_grad()
def test_a_parameter_that_changes_between_steps_is_seen() -> None:
    layer = encodings.create("kerple-log", **SHAPE)
    x = torch.randn(1, 9, 8)
    past = layer.bias(x[:, :7])
    past = layer.bias(x[:, 7:8], past)
    assert isinstance(past, DistanceBias)
    assert past.rows is not None
    assert past.cached_line() is not None
    for parameter in layer.parameters():
        parameter.add_(0.5)
    after = layer.bias(x[:, 8:], past)
    assert isinstance(after, DistanceBias)
    torch.testing.assert_close(row_of(after), layer.bias(x).added(slice(8, 9)))


@torch.no_grad()
@pytest.mark.parametrize("name", ["alibi", "cable", "cable-weighted", "k-cable", "fox", "kerple-log", "t5"])
def test_a_row_is_the_tile_but_for_a_constant(name: str) -> None:
    layer = encodings.create(name, **SHAPE)
    x = torch.randn(2, 12, 8)
    past = layer.bias(x[:, :9])
    for step in range(9, 12):
        past = layer.bias(x[:, step : step + 1], past)
        off = row_of(past) - layer.bias(x).added(slice(step, step + 1))
        torch.testing.assert_close(off, off[..., :1].expand_as(off), rtol=0, atol=1e-5)


CASES: dict[str, dict[str, Any]] = {
    "cable": {},
    "cable-weighted": {},
    "k-cable": {},
    "fox": {},
    "contextual": {"gate": "learned", "kernel": "log", "kernel_order": "before_gate"},
    "alibi": {"kernel": "sqrt"},
    "kerple-log": {},
    "t5": {},
    "sandwich": {},
    "rope+k-cable": {},
    "randomized-alibi": {},
    "adaptive": {"alpha_mode": "const"},
}


@pytest.mark.parametrize("name", CASES)
def test_long_decoding_equals_the_parallel_pass(name: str) -> None:
    """Past the length after which positions are measured anew, and after which tables and memories double."""
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=11, layers=2, heads=2, dim=16, train_length=32, encoding=name, encoding_options=CASES[name]
    )
    model = GPT(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randint(0, 11, (2, 3 * NEAR))
    state = model.start(2)
    found = []
    sizes = [5, *[1] * 80, 30, *[1] * (3 * NEAR - 115)]
    for part in tokens.split(sizes, dim=1):
        logits, state = model.step(part, state)
        found.append(logits)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(found, dim=1), model(tokens), rtol=2e-4, atol=2e-4)
