"""Logit: one formula, and what is said of it is true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Additive, Affine, Elementwise
from extrapo.encodings.core.distance import DistanceLogit
from extrapo.encodings.core.logit import AddedTile, Content

HEADS, HEAD_DIM, DIM, T = 2, 8, 16, 7

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in encodings.names()),
    ("adaptive", {"alpha_mode": "const"}),
    ("window+k-cable", {"window": {"window": 3}}),
    ("k-cable+ssmax", {}),
]


def bias(name: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, train_length=64, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        x, qkv = torch.randn(2, T, DIM).double(), torch.randn(3, 2, HEADS, T, HEAD_DIM).double()
        return made.encode(*qkv, x=x).bias


ELEMENTWISE = [variant for variant in VARIANTS if isinstance(bias(*variant), Elementwise)]


@pytest.mark.parametrize(("name", "options"), ELEMENTWISE)
@pytest.mark.parametrize("rows", [slice(0, T), slice(2, 5), slice(T - 1, T)])
def test_what_a_formula_says_of_itself(name: str, options: dict[str, Any], rows: slice) -> None:
    made = bias(name, options)
    logit, factors = made.logit, made.factors(rows)
    shape = made.shape[0], HEADS, rows.stop - rows.start, rows.stop
    for factor in factors:
        assert all(size in (1, whole) for size, whole in zip(factor.shape, shape, strict=True))
    score = torch.randn(2, *shape[1:], dtype=torch.float64)
    logits = logit(score, *factors)
    assert logits.shape == score.shape
    zero = torch.zeros_like(score)
    torch.testing.assert_close(logit.added(*factors).expand_as(score).to(score), logit(zero, *factors))
    # To add is to move every score by the same.
    moves = torch.allclose(logits - score, logit(zero, *factors), rtol=1e-12, atol=1e-12)
    assert logit.additive == moves
    if (line := logit.line(*factors)) is not None:
        temperature, added = line
        assert (temperature is None) == logit.additive
        torch.testing.assert_close((score if temperature is None else temperature * score) + added, logits)


@pytest.mark.parametrize(("name", "options"), ELEMENTWISE)
def test_a_formula_is_a_value_that_finds_what_was_compiled(name: str, options: dict[str, Any]) -> None:
    """Two layers of one scheme have equal formulas, without a tensor of their own."""
    first, second = (bias(name, options).logit for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert not [value for value in vars(first).values() if isinstance(value, Tensor)]


@dataclass(frozen=True)
class Sharpened(Affine):
    """t score + b, as somebody writes it."""

    power: float

    def temperature(self, *factors: Tensor) -> Tensor:
        return factors[0] ** self.power

    def bias(self, *factors: Tensor) -> Tensor:
        return -factors[1]


@dataclass(frozen=True)
class Lowered(Additive):
    """score - b."""

    def bias(self, *factors: Tensor) -> Tensor:
        return -factors[0]


def test_all_else_follows_from_the_formula() -> None:
    score, t, b = torch.randn(3, 2, 5, 5, dtype=torch.float64).unbind(0)
    t = t.abs()
    torch.testing.assert_close(Sharpened(2.0)(score, t, b), t**2 * score - b)
    assert torch.equal(Sharpened(2.0).added(t, b), -b)
    assert not Sharpened(2.0).additive
    assert Sharpened(2.0) != Sharpened(3.0)
    assert torch.equal(Lowered()(score, b), score - b)
    assert Lowered().additive
    assert Lowered().line(b)[0] is None  # type: ignore[index]


def test_a_tile_and_nothing() -> None:
    score, tile = torch.randn(2, 3, 3)
    assert torch.equal(AddedTile()(score, tile), score + tile)
    assert torch.equal(Content()(score, torch.zeros(1, 1)), score)
    assert Content().additive


def test_equal_formulas_are_one() -> None:
    """What was compiled of one serves the other."""

    def phi(z: Tensor) -> Tensor:
        return -z

    assert DistanceLogit(phi) == DistanceLogit(phi)
    assert hash(DistanceLogit(phi)) == hash(DistanceLogit(phi))
    assert DistanceLogit(phi) != DistanceLogit(phi, gated=True)
