"""Turned scores against their formula in complex numbers, lines of turns, and rows whose weights are watched."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import BACKENDS, backend
from extrapo.encodings.core.turned import TurnedRows, turned_scores

HEADS, DIM = 2, 12


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(q: Tensor, k: Tensor, turns: Tensor, theta: Tensor) -> Tensor:
    """Re sum over c of q_c conj(k_c) e^(i t theta_c), all planes at once."""
    half = q.size(-1) // 2
    a, b = (torch.complex(x[..., :half], x[..., half:]) for x in (q, k))
    rates = theta.repeat_interleave(half // theta.numel())
    pairs = a.unsqueeze(-2) * b.conj().unsqueeze(-3)
    return (pairs * torch.exp(1j * turns.unsqueeze(-1) * rates)).sum(-1).real


@given(
    batch=st.integers(1, 2), rows=st.integers(1, 5), keys=st.integers(1, 7), frequencies=st.integers(1, 3),
    each=st.integers(1, 2), shared=st.booleans(), trained=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_turned_scores_are_the_formula(
    batch: int, rows: int, keys: int, frequencies: int, each: int, shared: bool, trained: bool
) -> None:
    """Values and gradients; turns of each text or one for all, trained or not; frequencies of one plane or more."""
    theta, found = draw(frequencies, seed=4).abs(), []
    for function in (turned_scores, plain):
        q = draw(batch, HEADS, rows, 2 * frequencies * each).requires_grad_()
        k = draw(batch, HEADS, keys, 2 * frequencies * each, seed=1).requires_grad_()
        turns = (5 * draw(1 if shared else batch, HEADS, rows, keys, seed=2)).requires_grad_(trained)
        out = function(q, k, turns, theta)
        leaves = [q, k, turns] if trained else [q, k]
        found.append([out, *torch.autograd.grad(out, leaves, draw(*out.shape, seed=3))])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_turns_of_distances_are_rotations() -> None:
    """t = i - j turns q by +i theta against k by +j theta."""
    theta, places = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.arange(6.0, dtype=torch.float64)
    q, k = draw(1, 1, 6, 4), draw(1, 1, 6, 4, seed=1)

    def rotated(x: Tensor) -> Tensor:
        angles = places.unsqueeze(-1) * theta
        a, b = x.chunk(2, -1)
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)

    turns = (places.unsqueeze(-1) - places).view(1, 1, 6, 6)
    expected = rotated(q) @ rotated(k).mT
    torch.testing.assert_close(turned_scores(q, k, turns, theta), expected, rtol=1e-12, atol=1e-12)


def test_scores_are_in_the_dtype_of_the_turns() -> None:
    q = draw(1, 1, 3, 4).bfloat16()
    turns = torch.zeros(1, 1, 3, 3)
    got = turned_scores(q, q, turns, torch.ones(1))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, q.float() @ q.float().mT)


# -- lines -----------------------------------------------------------------------------------------------------------


def adaptive(length: int, mode: str = "log", *, training: bool = False, **options: Any) -> Any:
    """The encoding, and its bias of a text."""
    torch.manual_seed(0)
    layer = encodings.create("adaptive", heads=HEADS, head_dim=6, dim=DIM, alpha_mode=mode, **options).double()
    layer.train(training)
    return layer, layer.bias(draw(2, length, DIM))


@pytest.mark.parametrize("mode", ["log", "ema"])
def test_a_line_has_the_turns_of_every_pair(mode: str) -> None:
    length = 33
    _, bias = adaptive(length, mode)
    assert isinstance(bias, TurnedRows)
    line = bias.line_of_turns()
    assert line is not None
    assert line.shape == (1, HEADS, 1, length)
    assert line.dtype == torch.float64
    turns = bias.turns(bias.distance(slice(0, length)).clamp_min(0.0))
    for i in (0, 7, 32):
        torch.testing.assert_close(line[..., 0, length - 1 - i :], turns[..., i, : i + 1].double(), rtol=1e-12, atol=0)


def test_a_line_is_in_double_precision_whatever_the_layer_is() -> None:
    layer, _ = adaptive(9)
    line = layer.float().bias(draw(1, 9, DIM).float()).line_of_turns()
    assert line is not None
    assert line.dtype == torch.float64


def test_a_gap_between_documents_has_no_line() -> None:
    _, bias = adaptive(9)
    kernel = bias.host.host
    gap = 5.0 * (torch.arange(9) > 4)
    kernel = replace(kernel, queries=kernel.queries + gap, keys=kernel.keys + gap)
    assert replace(bias, host=replace(bias.host, host=kernel)).line_of_turns() is None


# -- rows whose weights are watched ----------------------------------------------------------------------------------


def test_watched_rows_see_a_power_of_two() -> None:
    _, bias = adaptive(33, "ema", training=True)
    assert bias.watched_rows() == [0, 1, 3, 7, 15, 31]
    assert adaptive(33, "ema")[1].watched_rows() == [], "in training alone"
    assert adaptive(33, "log", training=True)[1].watched_rows() == []


@dataclass(frozen=True)
class Case:
    """A layer of its own for each back end: a pass changes what it has measured."""

    layer: Any

    def measured(self, impl: str, length: int) -> tuple[Tensor, Tensor]:
        """Entropies after two passes, the second with a backward pass."""
        layer = copy.deepcopy(self.layer)
        for seed in (1, 2):
            q, k, v = (draw(2, HEADS, length, 6, seed=10 * seed + n).requires_grad_() for n in range(3))
            bias = layer.bias(draw(2, length, DIM, seed=seed))
            out = backend(impl)(q, k, v, bias, scale=1 / math.sqrt(6))
        out.sum().backward()
        return layer.entropies.mean, layer.entropies.measured


def serving() -> list[Any]:
    """The back ends that serve."""
    _, bias = adaptive(9, "ema", training=True)
    q = draw(2, HEADS, 9, 6)
    return [
        pytest.param(one.name, marks=[pytest.mark.slow] * one.compiles) for one in BACKENDS if one.serves(bias, q, q)
    ]


@pytest.mark.parametrize("impl", serving())
@pytest.mark.parametrize("length", [2, 33, 130])
def test_what_is_measured_is_what_the_reference_measures(impl: str, length: int) -> None:
    """Once in a pass, also where a back end never has a row's weights beside one another."""
    case = Case(adaptive(length, "ema", training=True, momentum=0.5)[0])
    mean, measured = case.measured(impl, length)
    expected, nodes = case.measured("reference", length)
    assert measured == nodes == length.bit_length()
    torch.testing.assert_close(mean, expected, rtol=1e-6, atol=1e-9)
