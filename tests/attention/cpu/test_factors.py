"""Factors: which kind each is, lines where a formula is the same along every diagonal, and gradients by their sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from outcomes import DIM, HEAD_DIM, HEADS, draw, layer
from torch import Tensor

from extrapo.attention.cpu.factors import Factors
from extrapo.attention.recorded.kinds import Kind, kind
from extrapo.encodings import Context, Elementwise
from extrapo.encodings.core.logit import AddedTile, AffineLine
from extrapo.encodings.core.turned import TurnedRows

LENGTH = 23


def bias(name: str, context: Context | None = None, **options: Any) -> Any:
    return layer(name, **options).bias(draw(2, LENGTH, DIM), None, context)


def test_factors_are_known_by_where_they_vary() -> None:
    assert kind(torch.zeros(2, 3, 1, 1)) == Kind.NUMBER
    assert kind(torch.zeros(1, 1, 4, 1)) == Kind.ROW
    assert kind(torch.zeros(2, 1, 1, 5)) == Kind.COLUMN
    with pytest.raises(ValueError, match="each pair"):
        kind(torch.zeros(1, 1, 4, 5))


@pytest.mark.parametrize(
    ("name", "options", "logit", "count"),
    [
        pytest.param("alibi", {}, AddedTile(), 1, id="added"),
        pytest.param("kerple-log", {}, AddedTile(), 1, id="a long formula"),
        pytest.param("adaptive", {"alpha_mode": "const"}, AffineLine(), 2, id="damped"),
        pytest.param("kerple-weight", {}, AffineLine(), 2, id="a factor alone"),
        pytest.param("adaptive", {"alpha_mode": "const", "temperature": False}, AddedTile(), 1, id="three terms"),
        pytest.param("adaptive", {"alpha_mode": "const", "kernel": "mlp-log"}, AffineLine(), 2, id="a network"),
    ],
)
def test_what_repeats_along_diagonals_is_lines(name: str, options: dict[str, Any], logit: object, count: int) -> None:
    """What the last query has for all keys: with it, every pair's logit is what the bias itself says."""
    made = bias(name, **options)
    factors = Factors.of(made, torch.float64)
    if name != "kerple-weight":
        assert factors.logit == logit
    assert factors.kinds == (Kind.LINE,) * len(factors.numbers)
    assert len(factors.numbers) <= count
    assert all(x.size(-1) == LENGTH and x.is_contiguous() for x in factors.numbers)
    score, rows = draw(2, HEADS, LENGTH, LENGTH), torch.arange(LENGTH)
    place = (LENGTH - 1 - rows).unsqueeze(-1) + rows
    seen = place < LENGTH
    tiles = [x[..., 0, :][..., place.clamp_max(LENGTH - 1)] for x in factors.numbers]
    got = factors.logit(score, *tiles)
    expected = made.logit(score, *made.factors(slice(0, LENGTH)))
    torch.testing.assert_close(got[..., seen], expected[..., seen], rtol=1e-12, atol=1e-12)


TOEPLITZ = [("alibi", {}), ("kerple-log", {}), ("kerple-power", {}), ("kerple-weight", {})]
TOEPLITZ.append(("adaptive", {"alpha_mode": "const"}))


@pytest.mark.parametrize(("name", "options"), TOEPLITZ)
def test_a_bias_that_repeats_is_constant_on_diagonals(name: str, options: dict[str, Any]) -> None:
    """What `toeplitz` claims, and that positions which are sampled do not claim it."""
    made = bias(name, **options)
    assert isinstance(made, Elementwise)
    assert made.toeplitz()
    logits = made.logit(torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.float64), *made.factors(slice(0, LENGTH)))
    seen = torch.ones(LENGTH - 1, LENGTH - 1, dtype=torch.bool).tril()
    torch.testing.assert_close(logits[..., 1:, 1:][..., seen], logits[..., :-1, :-1][..., seen], rtol=0, atol=0)
    places = torch.arange(LENGTH, dtype=torch.float64)
    apart = bias(name, Context((places + 5 * (places > 9)).view(1, 1, -1)), **options)
    assert not apart.toeplitz()
    assert Kind.LINE not in Factors.of(apart, torch.float64).kinds


@pytest.mark.parametrize("name", ["cable", "k-cable", "cable-weighted", "nope"])
def test_who_does_not_repeat(name: str) -> None:
    q = draw(2, HEADS, LENGTH, HEAD_DIM)
    made = bias(name).bind(q, q)
    assert not made.toeplitz()
    factors = Factors.of(made, torch.float64)
    assert factors.logit == made.whole_text().logit
    assert Kind.LINE not in factors.kinds


def test_turned_scores_bring_their_turns() -> None:
    made = bias("adaptive")
    assert isinstance(made, TurnedRows)
    factors = Factors.of(made, torch.float64)
    assert factors.turns is not None
    assert factors.turns.shape == (1, HEADS, 1, LENGTH)
    assert factors.theta is made.theta
    assert Factors.of(bias("alibi"), torch.float64).turns is None


def test_gradients_come_to_what_factors_are_made_of() -> None:
    """Sums over groups, texts and heads, down to each factor's size; None for what is not trained."""
    made = bias("k-cable")
    leaves = [x.detach().requires_grad_(n != 1) for n, x in enumerate(made.tensors())]
    factors = Factors.of(made.rebuilt(leaves), torch.float64)
    sizes = {Kind.NUMBER: 1, Kind.ROW: LENGTH, Kind.COLUMN: LENGTH}
    pairs = list(zip(factors.numbers, factors.kinds, factors.trained, strict=True))
    received = [draw(3, 2, HEADS, sizes[kind], seed=n) for n, (_, kind, trained) in enumerate(pairs) if trained]
    got = factors.gradients(received, None, leaves)
    # By autograd: the same sums, as the gradient of one number.
    trained = [x for x, _, is_trained in pairs if is_trained]
    total = torch.zeros((), dtype=torch.float64)
    for x, g in zip(trained, received, strict=True):
        whole = g.sum(0).unsqueeze(-1 if x.size(-2) > 1 else -2)
        total = total + (x * whole).sum()
    wanted = [x for x in leaves if x.requires_grad]
    expected = iter(torch.autograd.grad(total, wanted, allow_unused=True))
    for leaf, g in zip(leaves, got, strict=True):
        if not leaf.requires_grad:
            assert g is None
            continue
        other = next(expected)
        assert (g is None) == (other is None)
        if g is not None and other is not None:
            torch.testing.assert_close(g, other)


def test_nothing_is_wanted() -> None:
    made = bias("k-cable")
    leaves = [x.detach() for x in made.tensors()]
    assert Factors.of(made.rebuilt(leaves), torch.float64).gradients([], None, leaves) == [None] * len(leaves)


def test_a_line_of_any_slope() -> None:
    """Derivatives by a head's own number, through the line: by a small step of it."""
    made = bias("adaptive", alpha_mode="const")

    def lines(damping: Tensor) -> tuple[Tensor, ...]:
        return Factors.of(replace(made, damping=damping), torch.float64).numbers

    damping = made.damping.detach().requires_grad_()
    weights = [draw(*x.shape, seed=n) for n, x in enumerate(lines(damping))]
    (got,) = torch.autograd.grad([(x * w).sum() for x, w in zip(lines(damping), weights, strict=True)], damping)
    for head in range(HEADS):
        step = torch.zeros_like(damping)
        step[head] = 1e-6
        ends = []
        for moved in (damping.detach() + step, damping.detach() - step):
            ends.append(sum(float((x.detach() * w).sum()) for x, w in zip(lines(moved), weights, strict=True)))
        high, low = ends
        assert float(got[head]) == pytest.approx((high - low) / 2e-6, rel=1e-6)
