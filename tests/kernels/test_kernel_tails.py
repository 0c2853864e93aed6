"""What the kernels claim of their sums and their definiteness, and closed forms that they must meet."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from extrapo import kernels
from extrapo.kernels.base import Kernel

EULER = 0.5772156649015329


def weights(kernel: Kernel, length: int) -> torch.Tensor:
    """e^phi(n), n = 0..length-1."""
    return kernel.double()(torch.arange(length, dtype=torch.float64)).exp().detach()


def total(name: str, length: int, **options: Any) -> float:
    """Z_L, the sum of e^phi(n) over n < L."""
    return float(weights(kernels.create(name, **options), length).sum())


def network(slope: float) -> Kernel:
    """mlp-log with a single unit: about slope ln(z) for large z."""
    kernel = kernels.create("mlp-log", width=1, depth=1)
    with torch.no_grad():
        for parameter, value in zip(kernel.parameters(), (1.0, 0.0, slope), strict=True):
            parameter.fill_(value)
    return kernel


# -- sums --

#: name -> options with which the sum is finite (None: never), and with which it is not (None: always finite).
SUMS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "linear": ({"r": 0.1}, {"r": 1e-9}),
    "retention": ({"gamma": 0.9}, {"gamma": 1 - 1e-9}),
    "power": ({"a": 0.1, "p": 0.6}, None),
    "sqrt": ({"g": 0.5}, {"g": 1e-6}),
    "log": ({"p": 3.0, "a": 2.0}, {"p": 1.0, "a": 2.0}),
    "log-power": ({"b": 1.5, "p": 2.0}, {"b": 2.0, "p": 0.5}),
    "cauchy-log": ({"w": 3.0}, None),
    "student": ({"nu": 3.0, "w": 5.0}, None),
    "three-term": (
        {"delta": 1e-9, "beta": 3.0, "gamma": 1e-9},
        {"delta": 1e-12, "beta": 1.0, "gamma": 1e-12},
    ),
    "gauss-bias": ({"w": 100.0}, None),
    "gen-gauss": ({"a": -1.0, "r": 0.7}, {"a": -1.0, "r": -0.5}),
    "exp-saturating": (None, {}),
    "gauss-saturating": (None, {}),
    "triangular": (None, {}),
    "triangular-window": ({"w": 1000.0}, None),
    "mix-prob": ({"p": 3.0, "log": 1.0}, {"p": 1.0}),
    "mix-logit": ({"p": 0.1}, None),
    "cos-sum": (None, {}),
    "t5-bucket": (None, {}),
    "clip-table": (None, {}),
}


@pytest.mark.parametrize("name", kernels.names())
def test_sums_are_finite_where_the_kernel_says_so(name: str) -> None:
    if name == "mlp-log":
        finite, infinite = network(-3.0), network(-0.9)
    else:
        finite, infinite = (None if given is None else kernels.create(name, **given) for given in SUMS[name])
    claim = kernels.get(name).summable
    assert (finite is None) == claim.startswith("never")
    assert (infinite is None) == claim.startswith("always")
    half, full = 2**17, 2**18
    if finite is not None:
        assert weights(finite, full)[half:].sum() < 1e-4
    if infinite is not None:
        assert weights(infinite, full)[half:].sum() > 0.1


# -- conditionally positive definite --


def smallest_eigenvalue(kernel: Kernel, points: torch.Tensor) -> float:
    """Of the matrix phi(|x_i - x_j|) on vectors that sum to 0, relative to its largest entry."""
    gram = kernel((points.unsqueeze(0) - points.unsqueeze(1)).abs()).detach()
    centred = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    return float(torch.linalg.eigvalsh(centred)[0] / gram.abs().max().clamp_min(1))


@pytest.mark.parametrize("name", [name for name in kernels.names() if kernels.get(name).cpd])
def test_conditionally_positive_definite_where_it_says_so(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (2.0, 20.0, 500.0):
        kernel = kernels.create(name).double()
        with torch.no_grad():
            for parameter in kernel.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        points = scale * torch.rand(40, generator=generator, dtype=torch.float64)
        assert smallest_eigenvalue(kernel, points) >= -1e-9


#: Options with which the matrix has a negative eigenvalue.
INDEFINITE: dict[str, dict[str, Any]] = {
    "gen-gauss": {"r": 3.0, "a": 0.0},
    "mix-prob": {"linear": 0.1, "gauss": 1.0, "weights": "learned"},
    "triangular-window": {"w": 10.0},
}


@pytest.mark.parametrize("name", [name for name in kernels.names() if not kernels.get(name).cpd])
def test_not_definite_where_it_does_not_say_so(name: str) -> None:
    torch.manual_seed(0)
    kernel = kernels.create(name, **INDEFINITE.get(name, {})).double()
    if name == "mix-prob":
        # Half e^(-0.1 z), half e^(-z^2): a definite weight whose logarithm is not.
        kernel.logits.raw.data[2] = -60.0
    assert smallest_eigenvalue(kernel, torch.arange(24, dtype=torch.float64) / 2) < -1e-4


# -- closed forms --


@pytest.mark.parametrize("r", [0.02, 0.3, 1.0])
def test_linear_is_the_geometric_law(r: float) -> None:
    w = weights(kernels.create("linear", r=r), 4000)
    p, n = w / w.sum(), torch.arange(4000)
    assert float(w.sum()) == pytest.approx(1 / (1 - math.exp(-r)), rel=1e-6)
    assert float((p * n).sum()) == pytest.approx(1 / (math.exp(r) - 1), rel=1e-5)
    entropy = -float(torch.special.xlogy(p, p).sum())
    assert entropy == pytest.approx(r / (math.exp(r) - 1) - math.log(1 - math.exp(-r)), rel=1e-5)


def test_linear_has_half_of_its_weight_within_ln_2_over_r() -> None:
    w = weights(kernels.create("linear", r=0.001), 40_000)
    within = int((w.cumsum(0) < w.sum() / 2).sum())
    assert within == pytest.approx(math.log(2) / 0.001, abs=1)


def test_log_has_the_zeta_sums() -> None:
    length = 2**18
    assert total("log", length, p=1.0) - math.log(length) == pytest.approx(EULER, abs=1e-5)
    assert total("log", length, p=2.0) == pytest.approx(math.pi**2 / 6, abs=1e-5)


@pytest.mark.parametrize(("g", "expected"), [(0.1, 200.52), (0.5, 8.594), (1.0, 2.67)])
def test_sum_of_sqrt(g: float, expected: float) -> None:
    assert total("sqrt", 2**19, g=g) == pytest.approx(expected, abs=0.006)
    if g <= 0.5:
        assert expected == pytest.approx(2 / g**2 + 0.5, rel=0.02)


@pytest.mark.parametrize("w", [1.0, 3.0, 20.0])
def test_sum_of_cauchy_log(w: float) -> None:
    length = 2**19
    # The rest of the sum is about w^2 / L.
    found = total("cauchy-log", length, w=w) + w**2 / length
    assert found == pytest.approx(math.pi * w / 2 / math.tanh(math.pi * w) + 0.5, rel=1e-6)
    if w == 1:
        assert found == pytest.approx(2.0767, abs=5e-5)


@pytest.mark.parametrize(("r", "keys"), [(0.01, 101), (0.1, 11), (0.5, 3), (1.0, 2)])
def test_half_of_the_weight_of_cauchy_log(r: float, keys: int) -> None:
    weight = kernels.create("cauchy-log")(r * torch.arange(2**19, dtype=torch.float64)).exp()
    whole = math.pi / (2 * r) / math.tanh(math.pi / r) + 0.5
    assert int((weight.cumsum(0) < whole / 2).sum()) + 1 == keys


def test_cauchy_log_decays_as_the_square_of_the_distance() -> None:
    bias = kernels.create("cauchy-log")(torch.tensor([1e4, 1e5], dtype=torch.float64))
    assert float(bias[1] - bias[0]) == pytest.approx(-2 * math.log(10), abs=1e-6)


@pytest.mark.parametrize("name", ["exp-saturating", "gauss-saturating", "triangular", "t5-bucket", "clip-table"])
def test_a_floor_dilutes_like_the_length(name: str) -> None:
    torch.manual_seed(0)
    w = weights(kernels.create(name), 2**17)
    assert float(w.sum() / w[: 2**16].sum()) == pytest.approx(2, rel=0.06)


def test_a_generalised_gaussian_does_not_start_at_zero() -> None:
    zero = torch.zeros((), dtype=torch.float64)
    found = kernels.create("gen-gauss", a=0.5, r=1.5)(zero).item()
    assert found == pytest.approx(-math.exp(0.5) * 1e-5**1.5)
    # The peak lies at distance -mu.
    n = torch.arange(50, dtype=torch.float64)
    assert int(kernels.create("gen-gauss", a=0.0, location=-math.asinh(10))(n).argmax()) == 20


# -- Sandwich --


@pytest.fixture(scope="module")
def cosines() -> torch.Tensor:
    """h_n phi(n) for n < 10,000."""
    return kernels.create("cos-sum", compression=1.0).double()(torch.arange(10_000, dtype=torch.float64))


def test_cosines_fall_only_on_average(cosines: torch.Tensor) -> None:
    rises = cosines.diff() > 0
    assert int(rises.int().argmax()) == 13
    assert float(rises[:99].double().mean()) == pytest.approx(0.35, abs=0.01)
    assert float(rises[:999].double().mean()) == pytest.approx(0.47, abs=0.01)
    above = cosines - cosines.cummin(0).values
    # Largest rise over the lowest value so far.
    for length, rise in [(100, 5.6), (1000, 14.9), (10_000, 24.2)]:
        assert float(above[:length].max()) == pytest.approx(rise, abs=0.05)


def test_cosines_follow_the_logarithm_and_then_stay() -> None:
    kernel = kernels.create("cos-sum", compression=1.0).double()
    z = torch.logspace(1, 3, 5000, dtype=torch.float64)
    apart = kernel(z) + 64 * (z.log() + EULER) / math.log(10_000)
    # A sum of the integral's terms c = 1..64 has half of the term c = 0 less, which is -1 on average.
    assert float(apart.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(apart.std()) < 5.7
    assert float(kernel(torch.arange(1e6, 1.2e6, 7, dtype=torch.float64)).mean()) == pytest.approx(-64, abs=0.6)
