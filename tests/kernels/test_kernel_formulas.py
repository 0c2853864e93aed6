"""Each kernel against its formula, written once more in plain Python, and the numbers that papers print."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from extrapo import kernels
from extrapo.kernels.base import CHORD, Kernel

Z = [0.0, 0.5, 1.0, 2.25, 7.0, 13.75, 40.5, 300.0, 1e5]


def line(kernel: Kernel, entry: Callable[[int], int], z: float) -> float:
    """A table read at z: straight between the entries of the whole distances around it."""
    table = kernel.values()[0].tolist()
    n = math.floor(z)
    return (n + 1 - z) * table[entry(n)] + (z - n) * table[entry(n + 1)]


def bucket(n: int) -> int:
    """T5's causal bucket with 32 buckets and distances up to 128."""
    return n if n < 16 else min(31, 16 + math.floor(16 * math.log(n / 16) / math.log(128 / 16)))


def cosines(z: float, width: int) -> float:
    return sum(math.cos(z / 10_000 ** (2 * c / width)) for c in range(1, width // 2 + 1))


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


def network(kernel: Kernel, z: float) -> float:
    """Two hidden layers and an output, unit by unit."""
    w1, b1, w2, b2, v = (value.tolist() for value in kernel.values())
    first = [silu(w[0] * math.log(1 + z) + b) for w, b in zip(w1, b1, strict=True)]
    second = [silu(sum(w * x for w, x in zip(row, first, strict=True)) + b) for row, b in zip(w2, b2, strict=True)]
    return sum(w * x for w, x in zip(v, second, strict=True))


#: name -> (phi of z, the kernel and its options; the options).
FORMULAS: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
    "linear": (lambda z, k: -z, {}),
    "retention": (lambda z, k, gamma: z * math.log(gamma), {"gamma": 0.96875}),
    "power": (lambda z, k, a, p: -a * z**p, {"a": 0.4, "p": 1.3}),
    "sqrt": (lambda z, k, g: -g * math.sqrt(z), {"g": 0.2}),
    "log": (lambda z, k, p, a: -p * math.log(1 + a * z), {"p": 0.7, "a": 0.3}),
    "log-power": (lambda z, k, b, a, p: -b * math.log(1 + a * z**p), {"b": 0.7, "a": 0.3, "p": 1.6}),
    "cauchy-log": (lambda z, k: -math.log(1 + z * z), {}),
    "student": (
        lambda z, k, nu, w: -(nu + 1) / 2 * math.log(1 + z * z / (nu * w * w)),
        {"nu": 2.5, "w": 3.0},
    ),
    "three-term": (
        lambda z, k, delta, beta, gamma: -delta * z - beta * math.log(1 + z) - gamma * math.sqrt(z),
        {"delta": 0.05, "beta": 0.6, "gamma": 0.3},
    ),
    "gauss-bias": (lambda z, k, w: -z * z / (2 * w * w), {"w": 5.0}),
    "gen-gauss": (
        lambda z, k, a, r, location: -math.exp(a) * (abs(z + math.exp(location) - math.exp(-location)) + 1e-5) ** r,
        {"a": -0.7, "r": 1.3, "location": -0.8},
    ),
    "exp-saturating": (lambda z, k, c, w: -c * (1 - math.exp(-z / w)), {"c": 2.0, "w": 9.0}),
    "gauss-saturating": (lambda z, k, c, w: -c * (1 - math.exp(-z * z / (w * w))), {"c": 2.0, "w": 9.0}),
    "triangular": (lambda z, k, r, w: -r * min(z, w), {"r": 0.3, "w": 11.0}),
    "triangular-window": (lambda z, k, w: math.log(max(1 - z / w, 1e-30)), {"w": 50.0}),
    "mix-prob": (
        lambda z, k, linear, gauss, log, p: math.log(
            (math.exp(-linear * z) + math.exp(-gauss * z * z) + (1 + log * z) ** -p) / 3
        ),
        {"linear": 0.5, "gauss": 0.1, "log": 0.2, "p": 1.5},
    ),
    "mix-logit": (
        lambda z, k, linear, gauss, log, p: (-linear * z - gauss * z * z - p * math.log(1 + log * z)) / 3,
        {"linear": 0.5, "gauss": 0.1, "log": 0.2, "p": 1.5},
    ),
    "cos-sum": (lambda z, k: (cosines(z, 128) - 64) / 8, {}),
    "t5-bucket": (lambda z, k: line(k, bucket, z), {}),
    "clip-table": (lambda z, k, last: line(k, lambda n: min(n, last), z), {"last": 40}),
    "mlp-log": (lambda z, k: network(k, z), {}),
}


@pytest.mark.parametrize("name", kernels.names())
def test_formula(name: str) -> None:
    formula, options = FORMULAS[name]
    kernel = kernels.create(name, **options).double()
    expected = torch.tensor([formula(z, kernel, **options) for z in Z], dtype=torch.float64)
    got = kernel(torch.tensor(Z, dtype=torch.float64))
    # Options are kept in float32.
    torch.testing.assert_close(got, expected, rtol=3e-6, atol=1e-10)


def test_options_that_add_a_parameter() -> None:
    z = torch.tensor(Z, dtype=torch.float64)
    assert kernels.create("linear", r=0.25)(z).tolist() == pytest.approx((-0.25 * z).tolist())
    wide = kernels.create("cauchy-log", w=3.0)
    assert wide(z).tolist() == pytest.approx((-torch.log1p((z / 3) ** 2)).tolist(), rel=3e-6)
    assert not list(kernels.create("linear", r=0.25, trainable=False).parameters())
    assert not list(kernels.create("mix-prob", trainable=False).parameters())
    assert [name for name, _ in kernels.create("mix-prob", weights="learned").named_parameters()][-1] == "logits.raw"
    assert [name for name, _ in kernels.create("gen-gauss").named_parameters()] == ["a.raw", "r.raw"]
    moving = kernels.create("gen-gauss", learn_location=True)
    assert [name for name, _ in moving.named_parameters()] == ["a.raw", "r.raw", "location.raw"]


def test_one_form_is_another_at_special_values() -> None:
    z = torch.tensor(Z, dtype=torch.float64)

    def phi(name: str, **options: Any) -> torch.Tensor:
        return kernels.create(name, **options).double()(z)

    pairs = [
        (phi("student"), phi("cauchy-log")),
        (phi("log-power", p=2.0), phi("cauchy-log")),
        (phi("log-power", b=0.5, a=0.25), phi("log", p=0.5, a=0.25)),
        (phi("power", a=0.02, p=2.0), phi("gauss-bias", w=5.0)),
        (phi("power", p=0.5), phi("sqrt")),
        (phi("retention", gamma=math.exp(-0.5)), phi("linear", r=0.5)),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-10)


def test_learned_weights_of_a_mixture() -> None:
    options = {"linear": 0.5, "gauss": 0.1, "log": 0.2, "weights": "learned"}
    z = torch.tensor(3.0, dtype=torch.float64)
    parts = [math.exp(-1.5), math.exp(-0.9), 1 / 1.6]
    weights = torch.tensor([0.2, 0.3, 0.5])
    for name, expected in [
        ("mix-prob", math.log(sum(w * part for w, part in zip([0.2, 0.3, 0.5], parts, strict=True)))),
        ("mix-logit", sum(w * math.log(part) for w, part in zip([0.2, 0.3, 0.5], parts, strict=True))),
    ]:
        kernel = kernels.create(name, **options)
        with torch.no_grad():
            kernel.logits.raw.copy_(weights.log() + 3)
        assert kernel(z).item() == pytest.approx(expected, rel=1e-6)


def test_k_cable_on_the_worked_example() -> None:
    # Softplus increments of .5, -1, 2, .25; last row of the distances and of the biases.
    clock = torch.nn.functional.softplus(torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)).cumsum(0)
    distance = clock[-1] - clock
    assert distance.tolist() == pytest.approx([3.266129, 2.952867, 0.825939, 0], abs=1e-6)
    bias = kernels.create("cauchy-log")(distance)
    assert bias.tolist() == pytest.approx([-2.456816, -2.274127, -0.520088, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["sqrt", "power", "log-power", "three-term"])
def test_roots_have_a_finite_slope_at_zero_and_are_exact_beyond_the_chord(name: str) -> None:
    z = torch.tensor([0.0, CHORD / 2, CHORD], dtype=torch.float64, requires_grad=True)
    options = {"p": 0.5} if name.endswith("power") else {}
    (slope,) = torch.autograd.grad(kernels.create(name, **options)(z).sum(), z)
    assert torch.isfinite(slope).all()
    assert slope.abs().max() <= 2 / math.sqrt(CHORD)


# -- tables --

#: Distance and bucket.
T5_DISTANCES = [15, 16, 18, 20, 24, 32, 48, 64, 96, 112, 113, 128, 500]
T5_BUCKETS = [15, 16, 16, 17, 19, 21, 24, 26, 29, 30, 31, 31, 31]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_t5_buckets(dtype: torch.dtype) -> None:
    kernel = kernels.create("t5-bucket")
    kernel.table.raw.data = torch.arange(32.0)
    assert kernel(torch.tensor(T5_DISTANCES, dtype=dtype)).tolist() == T5_BUCKETS
    every = kernel(torch.arange(1000)).tolist()
    assert every == [bucket(n) for n in range(1000)]


def test_t5_buckets_of_other_sizes_may_be_skipped() -> None:
    kernel = kernels.create("t5-bucket", buckets=16, max_distance=10)
    kernel.table.raw.data = torch.arange(16.0)
    plain = [n if n < 8 else min(15, 8 + math.floor(8 * math.log(n / 8) / math.log(10 / 8))) for n in range(20)]
    assert kernel(torch.arange(20)).tolist() == plain
    assert len(set(plain)) < 16


@pytest.mark.parametrize("name", ["t5-bucket", "clip-table"])
def test_a_table_trains_its_entries_and_the_clock(name: str) -> None:
    kernel = kernels.create(name, heads=2)
    z = torch.tensor([[0.25, 3.0], [2.5, 1e4]]).expand(1, 2, 2, 2).clone().requires_grad_()
    by_z, by_table = torch.autograd.grad(kernel(z).sum(), [z, kernel.table.raw])
    table = kernel.table.raw.detach().squeeze(1)
    assert torch.equal(by_z[0, :, 0, 0], table[:, 1] - table[:, 0])
    assert torch.equal(by_z[0, :, 1, 1], torch.zeros(2))
    assert by_table[:, 0, :4].tolist() == [[0.75, 0.25, 0.5, 1.5]] * 2
    assert by_table[:, 0, -1].tolist() == [1, 1]
