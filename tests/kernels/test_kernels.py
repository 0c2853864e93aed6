"""What every registered kernel has: shapes, a start at 0, finite gradients, parameters in range. And the parameters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import kernels
from extrapo.errors import UserError
from extrapo.kernels.base import Free, Kernel, Positive, Width, alibi_slopes, per_head
from extrapo.testing import KernelContract

#: Those whose bias of no distance is not 0.
FREE_AT_ZERO = {"clip-table", "gen-gauss", "mlp-log", "t5-bucket"}

for _name in kernels.names():
    _exempt = {"zero": "a constant of its own, which cancels in the softmax"} if _name in FREE_AT_ZERO else {}
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (KernelContract,), {"kernel": _name, "exempt": _exempt})


def perturbed(name: str, seed: int, heads: int | None = None, size: float = 1.0) -> Kernel:
    """A kernel in float64 whose free values are perturbed at random."""
    torch.manual_seed(seed)
    kernel = kernels.create(name, heads=heads).double()
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return kernel


def test_there_are_twenty() -> None:
    assert len(kernels.names()) >= 20


@pytest.mark.parametrize("name", kernels.names())
def test_says_what_it_is(name: str) -> None:
    kernel = kernels.get(name)
    assert kernel.paper
    assert kernel.summary
    assert kernel.summable != "unknown"
    if kernel.paper == "-":
        assert "control" in kernel.summary or "derived" in kernel.summary


# -- values and gradients --


@pytest.mark.parametrize("name", kernels.names())
@given(z=st.lists(st.floats(0, 1e5), min_size=1, max_size=20), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_never_rises_where_it_says_so(name: str, z: list[float], seed: int) -> None:
    kernel = perturbed(name, seed)
    bias = kernel(torch.tensor(sorted([0.0, *z]), dtype=torch.float64))
    assert torch.isfinite(bias).all()
    if kernel.monotone:
        assert (bias.diff() <= 1e-12 * bias.abs().max().clamp_min(1)).all()
        assert bias.max() <= 1e-12


@pytest.mark.parametrize("name", [name for name in kernels.names() if not kernels.get(name).monotone])
def test_rises_where_it_says_so(name: str) -> None:
    z = torch.arange(64.0, dtype=torch.float64)
    assert any((perturbed(name, seed)(z).diff() > 1e-6).any() for seed in range(20))


# -- parameters --


@given(value=st.floats(0.02, 50), constraint=st.sampled_from(["softplus", "clamp"]))
def test_a_positive_parameter_starts_where_it_is_told(value: float, constraint: str) -> None:
    parameter = Positive(value, None, floor=0.01, constraint=constraint)
    assert parameter().item() == pytest.approx(value, rel=1e-5)


@given(value=st.floats(0.01, 1e5))
def test_a_width_starts_where_it_is_told(value: float) -> None:
    assert Width(value, None)().item() == pytest.approx(value, rel=2e-6)


def test_clamping_keeps_the_floor_and_the_way_back() -> None:
    parameter = Positive(0.5, None, floor=0.01, constraint="clamp")
    with torch.no_grad():
        parameter.raw.fill_(-3.0)
    value = parameter()
    value.backward()
    assert value.item() == pytest.approx(0.01)
    assert parameter.raw.grad == 1


def test_an_exponent_beyond_2_is_2_and_finds_back() -> None:
    kernel = kernels.create("power", p=5.0)
    _, p = kernel.values()
    p.backward()
    assert p.item() == 2.0
    assert kernel.p.raw.grad > 0


def test_one_initial_value_per_head() -> None:
    assert per_head([1.0, 2.0], 2).shape == (2, 1, 1)
    assert per_head(3.0, 2).flatten().tolist() == [3, 3]
    given_tensor = torch.ones(())
    Free(per_head(given_tensor, None)).raw.data.fill_(7)
    assert given_tensor == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("log", {"p": -1.0}, "positive"),
        ("log", {"p": 0.001}, "at least 0.01"),
        ("gauss-bias", {"w": 0.0}, "a width must be positive, not 0.0"),
        ("sqrt", {"g": [1.0, 2.0, 3.0]}, "one for each of 2 heads is needed, not 3"),
        ("retention", {"gamma": 1.0}, "gamma must lie between 0 and 1"),
        ("cos-sum", {"width": 7}, "must be even"),
        ("t5-bucket", {"buckets": 32, "max_distance": 16}, "max_distance above buckets/2, not 16"),
        ("clip-table", {"last": 0}, "at least 1, not 0"),
        ("mlp-log", {"depth": 0}, "at least 1"),
        ("mix-prob", {"weights": "some"}, "weights must be 'equal' or 'learned'"),
    ],
)
def test_mistakes_are_told_in_one_line(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        kernels.create(name, heads=2, **options)
    assert "\n" not in str(caught.value)


def test_unknown_kernel() -> None:
    with pytest.raises(UserError, match="did you mean 'cauchy-log'"):
        kernels.create("cauchy-lag")


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


def test_the_papers_starting_values_per_head() -> None:
    gamma = [math.exp(-float(r)) for r in kernels.create("retention", heads=3).values()[0].flatten()]
    assert gamma == pytest.approx([1 - 2**-5, 1 - 2**-6, 1 - 2**-7])
    slope = kernels.create("gen-gauss", heads=4).values()[0].exp().flatten()
    assert slope.tolist() == pytest.approx(alibi_slopes(4))
    compression = kernels.create("cos-sum", heads=4).values()[0].flatten()
    assert compression.tolist() == [2, 4, 6, 8]
    for term in kernels.create("mix-prob", heads=4).values()[:3]:
        assert term.flatten().tolist() == pytest.approx(alibi_slopes(4))
