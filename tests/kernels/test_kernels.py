"""What every registered kernel has: shapes, a start at 0, finite gradients, parameters in range. And the parameters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import kernels
from extrapo.errors import UserError
from extrapo.kernels.base import NARROWEST, WIDEST, Free, Kernel, Positive, Width, alibi_slopes, per_head

#: phi(0) is a constant of its own, which cancels in the softmax.
FREE_AT_ZERO = {"clip-table", "gen-gauss", "mlp-log", "t5-bucket"}


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


# -- shapes --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", kernels.names())
def test_a_kernel_without_heads_takes_any_shape(name: str, dtype: torch.dtype) -> None:
    kernel = kernels.create(name)
    for shape in [(), (5,), (2, 3), (2, 4, 3, 3)]:
        z = torch.rand(shape, dtype=dtype)
        assert kernel(z).shape == shape
        assert kernel(z).dtype == dtype


@pytest.mark.parametrize("name", kernels.names())
def test_parameters_per_head(name: str) -> None:
    kernel = perturbed(name, seed=0, heads=3)
    z = 20 * torch.rand(2, 1, 4, 5, dtype=torch.float64)
    bias = kernel(z.expand(2, 3, 4, 5))
    assert bias.shape == (2, 3, 4, 5)
    if list(kernel.values()):
        torch.testing.assert_close(kernel(z).expand_as(bias), bias)
        torch.testing.assert_close(kernel(z[0, 0]), bias[0])
    # A head alone is the scalar kernel.
    alone = kernels.create(name).double()
    state = {key: value[1].squeeze() if value.size(0) == 3 else value for key, value in kernel.state_dict().items()}
    if name.startswith("mix"):
        state["logits.raw"] = kernel.state_dict()["logits.raw"][:, 1].squeeze()
    alone.load_state_dict(state)
    torch.testing.assert_close(alone(z[:, 0]), bias[:, 1])


@pytest.mark.parametrize("name", kernels.names())
def test_distances_may_be_whole_numbers(name: str) -> None:
    kernel = kernels.create(name)
    assert torch.equal(kernel(torch.arange(9)), kernel(torch.arange(9.0)))


@pytest.mark.parametrize("name", kernels.names())
def test_state_dict_round_trip(name: str) -> None:
    first, second = perturbed(name, seed=1, heads=2), perturbed(name, seed=2, heads=2)
    second.load_state_dict(first.state_dict())
    z = 30 * torch.rand(1, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(first(z), second(z))


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


@pytest.mark.parametrize("name", sorted(set(kernels.names()) - FREE_AT_ZERO))
def test_starts_at_zero(name: str) -> None:
    assert perturbed(name, seed=3)(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", kernels.names())
def test_gradients_are_finite_at_zero_and_far_away(name: str, dtype: torch.dtype) -> None:
    for heads in (None, 2):
        kernel = kernels.create(name, heads=heads)
        z = torch.tensor([0.0, 1e-12, 1e-6, 1.0, 1e3, 1e6], dtype=dtype).expand(1, 2, 1, 6).clone().requires_grad_()
        bias = kernel(z)
        assert torch.isfinite(bias).all()
        for one in bias.unbind(-1):
            grads = torch.autograd.grad(one.sum(), [z, *kernel.parameters()], retain_graph=True)
            assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("name", kernels.names())
def test_gradients_are_those_of_the_formula(name: str) -> None:
    kernel = perturbed(name, seed=4, heads=2, size=0.3)
    z = torch.tensor([0.3, 1.4, 9.7, 20.2], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    values = [value.double().detach() for value in kernel.values()]
    # Thresholds and frequencies are constants.
    trained = [value.requires_grad_(value.dim() != 1) for value in values]
    assert torch.autograd.gradcheck(kernel.phi, (z, *trained))


@pytest.mark.parametrize("name", kernels.names())
def test_all_that_is_trained_passes_through_values(name: str) -> None:
    kernel = perturbed(name, seed=5, heads=2)
    z = 20 * torch.rand(1, 2, 3, 3, dtype=torch.float64)
    cut = [value.detach().to(z.dtype) for value in kernel.values()]
    assert not kernel.phi(z, *cut).requires_grad
    if parameters := list(kernel.parameters()):
        grads = torch.autograd.grad(kernel(z).sum(), parameters)
        assert all(grad.abs().max() > 0 for grad in grads)


# -- parameters --


@pytest.mark.parametrize("kick", [-1e4, -30.0, 30.0, 1e4])
@pytest.mark.parametrize("name", kernels.names())
def test_parameters_stay_in_range_whatever_the_optimiser_does(name: str, kick: float) -> None:
    kernel = kernels.create(name, heads=2)
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter.add_(kick)
    held = [module for module in kernel.modules() if isinstance(module, (Positive, Width))]
    for module in held:
        low, high = (module.floor, module.ceiling) if isinstance(module, Positive) else (NARROWEST, WIDEST)
        value = module()
        assert torch.isfinite(value).all()
        assert (value >= low * (1 - 1e-5)).all()
        assert (value <= high * (1 + 1e-5)).all()
    if len(held) == len(list(kernel.parameters())):
        assert torch.isfinite(kernel(torch.tensor([0.0, 1.0, 1e3]))).all()


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
