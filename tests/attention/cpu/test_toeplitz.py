"""Lines of distances: what tiles read of them, their derivatives, and what has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import reference, tiles
from extrapo.attention.cpu.compiler import has_compiler
from extrapo.attention.cpu.toeplitz import DiagonalTiles, has_lines, line, slopes
from extrapo.encodings.adaptive import AdaptiveBias

HEADS, HEAD_DIM, DIM, LENGTH, SCALE = 3, 4, 12, 23, 0.5

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bias(name: str = "adaptive", **options: Any) -> Any:
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).double()
    return made.bias(draw(1, LENGTH, DIM))


def leaves(of: Any) -> list[Tensor]:
    return [x.detach().requires_grad_(x.requires_grad) for x in of.tensors()]


@needs_compiler
@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 11), slice(19, 23)])
def test_a_tile_reads_its_diagonals(rows: slice) -> None:
    """Below the diagonal, what the encoding itself says of these rows; of each text the same."""
    of = bias(alpha_mode="const")
    made = DiagonalTiles(of, [x.detach() for x in of.tensors()], False, (2, HEADS, 8, LENGTH), torch.float64)
    t, b = (x.flip(-2).unflatten(0, (2, HEADS)) for x in made.factors(rows))
    seen = torch.ones(rows.stop - rows.start, rows.stop).tril(rows.start).bool()
    for got, expected in ((t, of.temperature(rows, 1.0)), (b, of.tile(rows))):
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
    ("made", "has"),
    [
        pytest.param(bias(alpha_mode="const"), True, id="damped"),
        pytest.param(bias(alpha_mode="log"), False, id="each pair's own rotation"),
        pytest.param(bias(alpha_mode="const", temperature=False), False, id="added alone"),
        pytest.param(bias("k-cable"), False, id="contextual"),
        pytest.param(bias(alpha_mode="const", kernel="mlp-log"), False, id="a network"),
    ],
)
def test_what_has_lines(made: Any, has: bool) -> None:
    assert has_lines(made, leaves(made)) == has


def test_a_gap_between_documents_has_no_lines() -> None:
    made = bias(alpha_mode="const")
    apart = made.keys + 5 * (torch.arange(LENGTH) > 9)
    gapped = replace(made, queries=apart, keys=apart)
    assert not has_lines(gapped, leaves(gapped))


@needs_compiler
@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rows", [8, 1])
def test_equals_the_reference(gap: bool, shared: bool, rows: int) -> None:
    """Values and gradients; a number of all heads, and one that nothing depends on; with a gap, or row by row, from the
    formula.
    """
    made = bias(alpha_mode="const")
    slope = torch.tensor(0.3, dtype=torch.float64) if shared else draw(HEADS, 1, 1, seed=7).abs()
    idle = torch.ones(HEADS, 1, 1, dtype=torch.float64)
    apart = made.keys + 5 * gap * (torch.arange(LENGTH) > 9)
    found = []
    for path, how in ((tiles, {"rows": rows, "compiled": True}), (reference, {})):
        q, k, v = (draw(2, HEADS, LENGTH, HEAD_DIM, seed=n).requires_grad_() for n in (1, 2, 3))
        values = [x.clone().requires_grad_() for x in (slope, idle)]
        damping = made.damping.detach().clone().requires_grad_()
        of = AdaptiveBias(
            heads=HEADS, queries=apart, keys=apart, dtype=torch.float64, phi=linear, values=tuple(values),
            damping=damping, theta=made.theta,
        )  # fmt: skip
        assert has_lines(of, of.tensors()) == (not gap)
        out = path(q, k, v, of, SCALE, **how)
        wanted = [q, k, v, damping, *values]
        grads = torch.autograd.grad(out, wanted, draw(*out.shape, seed=5), allow_unused=True)
        found.append([out, *(torch.zeros_like(x) if g is None else g for g, x in zip(grads, wanted, strict=True))])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@needs_compiler
def test_a_key_that_outweighs_the_own_by_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where weights measured from the own logit overflow, the tile is made from its largest: here by the formula."""
    made, again = bias(alpha_mode="const"), []
    plain = DiagonalTiles.worker.from_the_largest
    monkeypatch.setattr(DiagonalTiles.worker, "from_the_largest", lambda *given: again.append(1) or plain(*given))
    q, k, v = (draw(1, HEADS, LENGTH, HEAD_DIM, seed=n) for n in (1, 2, 3))
    k[:, :, 0], q[:, :, :7], q[:, :, 7:] = 3000.0, -q[:, :, :7].abs(), q[:, :, 7:].abs()
    found = []
    for path, how in ((tiles, {"rows": 8, "compiled": True}), (reference, {})):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = path(*leaves, made, SCALE, **how)
        found.append([out, *torch.autograd.grad(out, leaves, draw(*out.shape, seed=5))])
    assert len(again) == 2, "the first of three tiles turns away from that key"
    for got, expected in zip(*found, strict=True):
        assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


def linear(z: Tensor, slope: Tensor, idle: Tensor) -> Tensor:
    return -slope * z
