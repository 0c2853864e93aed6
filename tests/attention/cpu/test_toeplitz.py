"""Lines of distances: what tiles read of them, their derivatives, and what has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend, force_compile
from extrapo.attention.cpu.toeplitz import LineFactors, has_line, line, slopes

HEADS, HEAD_DIM, DIM, LENGTH, SCALE = 3, 4, 12, 23, 0.5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bias(name: str = "adaptive", **options: Any) -> Any:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).double()
    return made.bias(draw(1, LENGTH, DIM))


def leaves(of: Any) -> list[Tensor]:
    return [x.detach().requires_grad_(x.requires_grad) for x in of.tensors()]


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 11), slice(19, 23)])
def test_a_tile_reads_its_diagonals(rows: slice) -> None:
    """Below the diagonal, what the encoding itself says of these rows; of each text the same."""
    of = bias(alpha_mode="const")
    factors = LineFactors(of, [x.detach() for x in of.tensors()], (2, HEADS), 8, torch.float64)
    t, b = (x.flip(-2).unflatten(0, (2, HEADS)) for x in factors.of_rows(rows))
    seen = torch.ones(rows.stop - rows.start, rows.stop).tril(rows.start).bool()
    numbers = of.factors(rows)
    for got, expected in ((t, of.logit.temperature(*numbers)), (b, of.logit.bias(*numbers))):
        torch.testing.assert_close(got[..., seen], expected.expand(2, -1, -1, -1)[..., seen], rtol=1e-12, atol=1e-12)


def test_slopes_are_derivatives() -> None:
    """By a small step of one head's number, in the middle."""
    of = bias(alpha_mode="const")
    given = leaves(of)
    found = slopes(of, given)
    trained = [n for n, x in enumerate(given) if x.requires_grad]
    assert len(found) == len(trained) == 4, "the damping and three terms"
    assert sorted((t is not None, b is not None) for t, b in found) == [(False, True)] * 3 + [(True, False)]
    for n, pair in zip(trained, found, strict=True):
        ends = []
        for step in (1e-6, -1e-6):
            moved = [x.detach() for x in given]
            moved[n] = moved[n] + step
            ends.append(line(of, moved))
        for slope, high, low in zip(pair, *ends, strict=True):
            got = torch.zeros_like(high) if slope is None else slope
            torch.testing.assert_close(got, (high - low) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "has"),
    [
        pytest.param("adaptive", {"alpha_mode": "const"}, True, id="damped"),
        pytest.param("kerple-weight", {}, True, id="a factor alone"),
        pytest.param("adaptive", {"alpha_mode": "const", "temperature": False}, False, id="added alone"),
        pytest.param("k-cable", {}, False, id="contextual"),
        pytest.param("adaptive", {"alpha_mode": "const", "kernel": "mlp-log"}, False, id="a network"),
    ],
)
def test_what_has_a_line(name: str, options: dict[str, Any], has: bool) -> None:
    made = bias(name, **options)
    assert has_line(made, leaves(made)) == has


def gapped(of: Any) -> Any:
    """The same with a gap between two documents."""
    apart = of.host.keys + 5 * (torch.arange(LENGTH) > 9)
    return replace(of, host=replace(of.host, queries=apart, keys=apart))


def test_a_gap_between_documents_has_no_line() -> None:
    made = gapped(bias(alpha_mode="const"))
    assert not has_line(made, leaves(made))


def linear(z: Tensor, slope: Tensor, idle: Tensor) -> Tensor:
    return -slope * z


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rows", [8, 1])
def test_equals_the_reference(gap: bool, shared: bool, rows: int, tile_rows: Any) -> None:
    """Values and gradients; a number of all heads, and one that nothing depends on; with a gap, or row by row, from the
    formula.
    """
    plain = bias(alpha_mode="const")
    slope = torch.tensor(0.3, dtype=torch.float64) if shared else draw(HEADS, 1, 1, seed=7).abs()
    idle = torch.ones(HEADS, 1, 1, dtype=torch.float64)
    found = []
    for impl in ("cpu-tiles", "reference"):
        q, k, v = (draw(2, HEADS, LENGTH, HEAD_DIM, seed=n).requires_grad_() for n in (1, 2, 3))
        values = [x.clone().requires_grad_() for x in (slope, idle)]
        damping = plain.damping.detach().clone().requires_grad_()
        of = replace(plain, host=replace(plain.host, phi=linear, values=tuple(values)), damping=damping)
        of = gapped(of) if gap else of
        assert has_line(of, of.tensors()) == (not gap)
        with tile_rows(rows), force_compile():
            out = attend(q, k, v, of, scale=SCALE, impl=impl)
        wanted = [q, k, v, damping, *values]
        grads = torch.autograd.grad(out, wanted, draw(*out.shape, seed=5), allow_unused=True)
        found.append([out, *(torch.zeros_like(x) if g is None else g for g, x in zip(grads, wanted, strict=True))])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
