"""The generic contextual distance against its formula and its reductions; the clock of a row against sums in loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import encodings
from extrapo.encodings import Context
from extrapo.encodings.core.contextual import DistancePerQuery

HEADS, D = 2, 4
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}

PLAIN: dict[str, Callable[[float], float]] = {
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "relu": lambda z: max(z, 0.0),
    "log-sigmoid": lambda z: -math.log(1 / (1 + math.exp(-z))),
    "exp": math.exp,
    "const": lambda z: 1.0,
}


def draw(length: int = 6) -> torch.Tensor:
    return torch.randn(1, length, HEADS * D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def create(name: str, **options: Any) -> encodings.Encoding:
    torch.manual_seed(0)
    layer = encodings.create(name, **SHAPE, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def dense(layer: encodings.Encoding, x: torch.Tensor) -> torch.Tensor:
    return layer.bias(x).added(slice(0, x.size(1))).expand(1, HEADS, -1, -1)[0].detach()


@pytest.mark.parametrize("order", ["after_gate", "before_gate"])
@pytest.mark.parametrize("gate", ["none", "softplus", "learned"])
@pytest.mark.parametrize("increments", list(PLAIN))
def test_formula(increments: str, gate: str, order: str) -> None:
    layer = create("contextual", increments=increments, gate=gate, kernel="cauchy-log", kernel_order=order)
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    x = draw()
    got = dense(layer, x)
    for h in range(HEADS):
        steps = [1.0] * 6
        if increments != "const":
            z = x[0] @ weights["contextual.projection.weight"][h] + weights["contextual.projection.bias"][h]
            steps = [PLAIN[increments](float(each)) for each in z]
        for i in range(6):
            g = 1.0
            if gate == "softplus":
                g = PLAIN["softplus"](float(x[0, i] @ weights["gate.weight"][h]))
            elif gate == "learned":
                g = PLAIN["softplus"](float(weights["gate.raw"][h]))
            for j in range(i + 1):
                n = sum(steps[j + 1 : i + 1])
                expected = -math.log(1 + (g * n) ** 2) if order == "after_gate" else -g * math.log(1 + n**2)
                assert float(got[h, i, j]) == pytest.approx(expected, abs=1e-10)


def test_by_default_it_is_cable() -> None:
    x, generic, cable = draw(), create("contextual"), create("cable")
    generic.load_state_dict(cable.state_dict())
    assert torch.equal(dense(generic, x), dense(cable, x))


def test_const_with_a_learned_gate_is_alibi() -> None:
    generic = encodings.create("contextual", **SHAPE, increments="const", gate="learned")
    alibi = encodings.create("alibi", **SHAPE, learned=True)
    assert [p.numel() for p in generic.parameters()] == [HEADS]
    torch.testing.assert_close(dense(generic, draw()), dense(alibi, draw()))
    folded = [made.bias(draw()).low_rank() for made in (generic, alibi)]
    torch.testing.assert_close(*(columns.u * columns.w for columns in folded))


def test_log_sigmoid_is_fox() -> None:
    generic, fox = create("contextual", increments="log-sigmoid"), create("fox")
    generic.load_state_dict(fox.state_dict())
    assert torch.equal(dense(generic, draw()), dense(fox, draw()))


def test_const_under_the_kernel_log_is_kerple_log() -> None:
    generic, kerple = create("contextual", increments="const", kernel="log"), create("kerple-log")
    generic.kernel.load_state_dict(kerple.kernel.state_dict())
    assert torch.equal(dense(generic, draw()), dense(kerple, draw()))


def test_const_counts_where_the_tokens_stand() -> None:
    layer = encodings.create("contextual", **SHAPE, increments="const")
    places = torch.tensor([0.0, 3.0, 4.0, 90.0], dtype=torch.float64).view(1, 1, 4)
    got = layer.bias(draw(4), None, Context(places)).added(slice(0, 4))
    torch.testing.assert_close(got[0, 0, 3].double(), -(90 - places[0, 0]), rtol=0, atol=0)


def test_a_scheme_of_the_family_takes_the_options_of_the_form() -> None:
    layer = create("cable-nw", increments="exp", linear_bias=True, gate="learned")
    other = create("contextual", increments="exp", gate="learned")
    other.load_state_dict(layer.state_dict())
    assert torch.equal(dense(layer, draw()), dense(other, draw()))


def row_sum(readers: torch.Tensor, tokens: torch.Tensor, i: int, j: int, own: bool) -> torch.Tensor:
    """Sum of ln sigma(r_i . e_l) over l = j+1..i, or over l = j..i-1; query i is token i + S - T."""
    at = i + tokens.size(0) - readers.size(0)
    between = range(j + 1, at + 1) if own else range(j, at)
    return sum((F.logsigmoid(readers[i] @ tokens[m]) for m in between), torch.zeros((), dtype=readers.dtype))


@given(before=st.integers(0, 4), queries=st.integers(1, 7), start=st.integers(0, 6), own=st.booleans())
@settings(max_examples=40, deadline=None)
def test_clock_of_a_row(before: int, queries: int, start: int, own: bool) -> None:
    generator = torch.Generator().manual_seed(queries)
    readers = torch.randn(1, 1, queries, 3, generator=generator, dtype=torch.float64)
    tokens = torch.randn(1, 1, before + queries, 3, generator=generator, dtype=torch.float64)
    start = min(start, queries - 1)
    bias = DistancePerQuery(readers, tokens, own, slopes=torch.full((1, 1, 1), 0.5, dtype=torch.float64))
    got = bias.added(slice(start, queries))
    assert got.shape == (1, 1, queries - start, before + queries)
    for i in range(start, queries):
        for j in range(before + i + 1):
            expected = 0.5 * row_sum(readers[0, 0], tokens[0, 0], i, j, own)
            torch.testing.assert_close(got[0, 0, i - start, j], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("own", [True, False])
def test_clock_of_a_row_has_the_gradients_of_the_sum(own: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    readers, tokens = (torch.randn(1, 1, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    leaves = [readers.requires_grad_(), tokens.requires_grad_()]
    receive = torch.randn(5, 5, generator=generator, dtype=torch.float64).tril()
    fast = (DistancePerQuery(readers, tokens, own).added(slice(0, 5))[0, 0] * receive).sum()
    slow = sum(receive[i, j] * row_sum(readers[0, 0], tokens[0, 0], i, j, own) for i in range(5) for j in range(i + 1))
    for a, b in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_near_keys_lose_no_digits_to_far_ones() -> None:
    # 20,000 tokens of ln 1/2: the whole row sums to -13,863, where float32 steps by 0.001.
    bias = DistancePerQuery(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 20_000, 2), own=True)
    near = bias.added(slice(0, 1))[0, 0, 0, -3:]
    torch.testing.assert_close(near, -math.log(2) * torch.tensor([2.0, 1.0, 0.0]), rtol=1e-6, atol=0)


def test_weights_of_an_earlier_name() -> None:
    """Checkpoints in which `contextual` was called `clock`."""
    first, second = (encodings.create("rope+cable", **SHAPE) for _ in range(2))
    old = {name.replace("contextual.", "clock."): value for name, value in first.state_dict().items()}
    assert any(".clock.projection." in name for name in old)
    second.load_state_dict(old)
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])
