"""Kernels against their formulas, and the properties that all of them have."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import kernels
from extrapo.errors import UserError
from extrapo.kernels.base import CHORD, Positive, alibi_slopes

Z = torch.tensor([0.0, 0.5, 1.0, 2.25, 7.0, 300.0, 1e5], dtype=torch.float64)

FORMULAS = {
    "linear": (lambda z, **_: -z, {}),
    "log": (lambda z, p, a: -p * math.log(1 + a * z), {"p": 0.7, "a": 0.3}),
    "power": (lambda z, a, p: -a * z**p, {"a": 0.4, "p": 1.3}),
    "sqrt": (lambda z, g: -g * math.sqrt(z), {"g": 0.2}),
    "cauchy-log": (lambda z, **_: -math.log(1 + z * z), {}),
    "three-term": (
        lambda z, delta, beta, gamma: -delta * z - beta * math.log(1 + z) - gamma * math.sqrt(z),
        {"delta": 0.05, "beta": 0.6, "gamma": 0.3},
    ),
}


@pytest.mark.parametrize("name", kernels.names())
def test_formula(name: str) -> None:
    formula, options = FORMULAS[name]
    kernel = kernels.create(name, **options).double()
    expected = torch.tensor([formula(float(z), **options) for z in Z], dtype=torch.float64)
    torch.testing.assert_close(kernel(Z), expected, rtol=1e-6, atol=1e-12)


def test_k_cable_on_the_worked_example() -> None:
    # Softplus increments of .5, -1, 2, .25; last row of the distances and of the biases.
    clock = torch.nn.functional.softplus(torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)).cumsum(0)
    distance = clock[-1] - clock
    assert distance.tolist() == pytest.approx([3.266129, 2.952867, 0.825939, 0], abs=1e-6)
    bias = kernels.create("cauchy-log")(distance)
    assert bias.tolist() == pytest.approx([-2.456816, -2.274127, -0.520088, 0], abs=1e-6)


def test_options_that_add_a_parameter() -> None:
    assert kernels.create("linear", r=0.25)(Z).tolist() == pytest.approx((-0.25 * Z).tolist())
    wide = kernels.create("cauchy-log", w=3.0)
    assert wide(Z).tolist() == pytest.approx((-torch.log1p((Z / 3) ** 2)).tolist())
    assert not list(kernels.create("linear", r=0.25, trainable=False).parameters())


@pytest.mark.parametrize("name", kernels.names())
@given(z=st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_zero_at_zero_decreasing_and_finite_with_its_gradients(name: str, z: list[float]) -> None:
    kernel = kernels.create(name)
    ordered = torch.tensor(sorted([0.0, *z]), dtype=torch.float64, requires_grad=True)
    bias = kernel(ordered)
    assert bias[0] == 0
    assert (bias.diff() <= 1e-9).all()
    grads = torch.autograd.grad(bias.sum(), [ordered, *kernel.parameters()], allow_unused=True)
    assert all(torch.isfinite(g).all() for g in grads if g is not None)


@pytest.mark.parametrize("name", ["sqrt", "power", "three-term"])
def test_roots_have_a_finite_slope_at_zero_and_are_exact_beyond_the_chord(name: str) -> None:
    z = torch.tensor([0.0, CHORD / 2, CHORD], dtype=torch.float64, requires_grad=True)
    options = {"p": 0.5} if name == "power" else {}
    (slope,) = torch.autograd.grad(kernels.create(name, **options)(z).sum(), z)
    assert torch.isfinite(slope).all()
    assert slope.abs().max() <= 2 / math.sqrt(CHORD)


@pytest.mark.parametrize("name", kernels.names())
def test_distances_may_be_whole_numbers(name: str) -> None:
    kernel = kernels.create(name)
    assert torch.equal(kernel(torch.arange(9)), kernel(torch.arange(9.0)))


@pytest.mark.parametrize("name", kernels.names())
def test_parameters_per_head(name: str) -> None:
    kernel = kernels.create(name, heads=3)
    assert kernel(torch.rand(2, 3, 5, 5)).shape == (2, 3, 5, 5)
    assert all(p.shape == (3, 1, 1) for p in kernel.parameters())


@pytest.mark.parametrize("gated", [False, True])
def test_linear_folds_into_one_column(gated: bool) -> None:
    kernel = kernels.create("linear", heads=3, r=[0.5, 1.0, 2.0]).double()
    position = torch.rand(2, 3, 6, dtype=torch.float64).cumsum(-1)
    gate = torch.rand(2, 3, 6, dtype=torch.float64) if gated else None
    columns = kernel.fold(position, position, gate, *kernel.values())
    assert columns is not None
    folded = (columns.u @ columns.w.transpose(-1, -2)).softmax(-1)
    distance = position.unsqueeze(-1) - position.unsqueeze(-2)
    plain = kernel(distance if gate is None else gate.unsqueeze(-1) * distance).softmax(-1)
    torch.testing.assert_close(folded, plain)


@pytest.mark.parametrize("name", kernels.names())
def test_says_whether_it_folds(name: str) -> None:
    kernel = kernels.create(name, heads=2)
    position = torch.arange(4.0).view(1, 1, 4)
    assert (kernel.fold(position, position, None, *kernel.values()) is not None) == kernels.get(name).folds


@given(value=st.floats(0.02, 50), constraint=st.sampled_from(["softplus", "clamp"]))
def test_a_positive_parameter_starts_where_it_is_told(value: float, constraint: str) -> None:
    assert float(Positive(value, None, floor=0.01, constraint=constraint)()) == pytest.approx(value, rel=1e-5)


def test_clamping_keeps_the_floor() -> None:
    parameter = Positive(0.5, None, floor=0.01, constraint="clamp")
    with torch.no_grad():
        parameter.raw.fill_(-3.0)
    assert float(parameter()) == pytest.approx(0.01)


def test_power_stays_conditionally_positive_definite() -> None:
    _, p = kernels.create("power", p=5.0).values()
    assert float(p) == 2.0


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (8, [2.0**-h for h in range(1, 9)]),
        (12, [*(2.0**-h for h in range(1, 9)), 0.70711, 0.35355, 0.17678, 0.08839]),
        (10, [*(2.0**-h for h in range(1, 9)), 0.70711, 0.35355]),
    ],
)
def test_alibi_slopes(heads: int, expected: list[float]) -> None:
    assert alibi_slopes(heads) == pytest.approx(expected, abs=1e-5)


def test_unknown_kernel() -> None:
    with pytest.raises(UserError, match="did you mean 'cauchy-log'"):
        kernels.create("cauchy-lag")
