"""Rotations: they keep lengths, add up, undo each other, and depend on differences of angles alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo.encodings.core.frequencies import (
    frequencies,
)
from extrapo.encodings.core.rotation import (
    Layout,
    accumulated,
    rotate,
    rotate_both,
    rotate_by,
    rotate_by_index,
    rotate_pairwise,
    rotate_stretched,
)

LAYOUTS: list[Layout] = ["half", "interleaved"]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(seed=st.integers(0, 1000), planes=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_group_laws(layout: Layout, seed: int, planes: int) -> None:
    x, y = draw(5, 8, seed=seed), draw(5, 8, seed=seed + 1)
    a, b = 10 * draw(5, planes, seed=seed + 2), 10 * draw(5, planes, seed=seed + 3)
    torch.testing.assert_close(rotate(x, a, layout).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(rotate(x, a, layout), b, layout), rotate(x, a + b, layout))
    torch.testing.assert_close(rotate(rotate(x, a, layout), -a, layout), x)
    relative = (rotate(x, a, layout) * rotate(y, b, layout)).sum(-1)
    torch.testing.assert_close(relative, (rotate(x, a - b, layout) * y).sum(-1))


@pytest.mark.parametrize(("layout", "second"), [("half", 2), ("interleaved", 1)])
def test_the_sense_of_rotation(layout: Layout, second: int) -> None:
    """A quarter turn takes the first axis of a plane to its second."""
    x = torch.eye(4, dtype=torch.float64)[:1]
    turned = rotate(x, torch.tensor([[math.pi / 2, 0.0]], dtype=torch.float64), layout)
    assert turned[0].tolist() == pytest.approx([float(c == second) for c in range(4)])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_lies_beyond_the_planes_stays(layout: Layout) -> None:
    x = draw(3, 8, seed=0)
    assert torch.equal(rotate(x, draw(3, 2, seed=1), layout)[:, 4:], x[:, 4:])


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    shapes=st.sampled_from(
        [((2, 3, 5, 8), (5, 4)), ((2, 3, 5, 8), (2, 1, 5, 3)), ((5, 4), (2, 3, 5, 2)), ((4, 2), (1, 1))]
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_in_place_it_is_the_formula(layout: Layout, shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int) -> None:
    """In values and in the gradients of what is turned and of the angles, also where one of them is repeated."""
    x, angles = (draw(*shape, seed=seed + n).requires_grad_() for n, shape in enumerate(shapes))
    fast, slow = rotate(x, angles, layout), rotate_by(x, angles.cos(), angles.sin(), layout)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    receive = draw(*slow.shape, seed=seed + 2)
    for got, expected in zip(*(torch.autograd.grad(y, [x, angles], receive) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("trained", ["x", "angles"])
def test_either_may_be_constant(trained: str) -> None:
    x, angles = draw(3, 4, seed=0), draw(3, 2, seed=1)
    leaf = {"x": x, "angles": angles}[trained].requires_grad_()
    (got,) = torch.autograd.grad(rotate(x, angles).square()[:, 0].sum(), leaf)
    (expected,) = torch.autograd.grad(rotate_by(x, angles.cos(), angles.sin(), "half").square()[:, 0].sum(), leaf)
    torch.testing.assert_close(got, expected)


def test_only_cosine_and_sine_are_rounded() -> None:
    far = torch.tensor([[1e6]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16)
    assert rotate(x, far).tolist() == torch.tensor([[math.cos(1e6), math.sin(1e6)]]).bfloat16().tolist()


def test_sums_of_angles_go_on_where_they_stopped() -> None:
    steps = draw(2, 7, 3, seed=0)
    whole = accumulated(steps)
    for t in range(7):
        torch.testing.assert_close(whole[:, t], steps[:, : t + 1].sum(1))
    torch.testing.assert_close(accumulated(steps[:, 4:], whole[:, 3:4]), whole[:, 4:])
    assert accumulated(steps.bfloat16()).dtype == torch.float64


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_product_of_pairs_that_turn_by_angles_of_their_own(layout: Layout) -> None:
    q, k = draw(2, 3, 4, 6, seed=0).requires_grad_(), draw(2, 3, 5, 6, seed=1).requires_grad_()
    angles = 10 * draw(3, 2, 1, 4, 5, seed=2)
    rows = []
    for i in range(4):
        turned = [rotate(k[..., j, :], -angles[..., i, j].movedim(0, -1), layout) for j in range(5)]
        rows.append(torch.stack([(q[..., i, :] * key).sum(-1) for key in turned], dim=-1))
    expected = torch.stack(rows, dim=-2)
    got = rotate_pairwise(q, k, angles, layout)
    torch.testing.assert_close(got, expected)
    receive = draw(2, 3, 4, 5, seed=3)
    for mine, theirs in zip(*(torch.autograd.grad((o * receive).sum(), (q, k)) for o in (got, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(ValueError, match="shorter"):
        rotate_pairwise(q, k, angles[:2], layout)


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("width", [8, 10])
def test_layers_that_share_a_turn_turn_as_each_would(layout: Layout, length: int, width: int) -> None:
    """Those at other places, of other frequencies or of another precision take their own."""
    q, k = draw(2, 2, 3, length, width, seed=0)
    here, there = (torch.arange(n, n + length, dtype=torch.float64).view(1, 1, -1) for n in (5000, 7))
    slow, fast = frequencies(8, 500_000.0, q), frequencies(8, 10_000.0, q)
    shared: dict[str, Any] = {}
    layers = [(here, slow), (here, slow), (here, fast), (there, fast), (here, slow)]
    for dtype in (torch.float64, torch.float32, torch.float64):
        for index, theta in layers:
            found = rotate_by_index(q.to(dtype), k.to(dtype), index, theta, layout, shared)
            expected = rotate_both(q.to(dtype), k.to(dtype), index.unsqueeze(-1) * theta, layout)
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


@torch.no_grad()
def test_layers_of_one_pass_take_the_cosines_of_a_token_once() -> None:
    q, k = draw(2, 1, 2, 1, 8, seed=0)
    index, theta, shared = (
        torch.full((1, 1, 1), 5.0, dtype=torch.float64),
        frequencies(8, 10_000.0, q),
        dict[str, Any](),
    )
    rotate_by_index(q, k, index, theta, "half", shared)
    kept = shared["turn"]
    rotate_by_index(k, q, index, theta, "half", shared)
    assert shared["turn"] is kept


@torch.no_grad()
def test_turns_made_ahead_are_those_of_each_token() -> None:
    """Wherever a token stands, and whatever has changed since: heads' stretches, frequencies, precision, places."""
    slow, fast = (frequencies(8, base, torch.empty(0)) for base in (500_000.0, 10_000.0))
    alpha = torch.tensor([1.0, 1.7]).view(2, 1, 1)
    tokens = [(float(n), alpha, fast, torch.float32) for n in (*range(5000, 5040), 5040.5, 5041.5, 5041, 7)]
    tokens += [(8.0, alpha, fast.clone(), torch.float32), (9.0, alpha * 2, fast, torch.float32)]
    tokens += [
        (10.0, alpha, slow, torch.float32),
        (11.0, alpha, slow, torch.float64),
        (12.0, alpha, slow, torch.float64),
    ]
    past, made = None, 0
    for place, stretch, theta, dtype in tokens:
        q, k = draw(2, 2, 2, 1, 8, seed=int(place)).to(dtype)
        index = torch.full((1, 1, 1), place, dtype=torch.float64)
        *found, kept = rotate_stretched(q, k, index, stretch, theta, past)
        made += kept is not past
        expected = rotate_both(q, k, index.unsqueeze(-1) / stretch * theta)
        torch.testing.assert_close(tuple(found), expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)
        past = kept
    assert made < len(tokens) / 3


def test_a_text_is_turned_as_by_the_formula_and_keeps_nothing() -> None:
    q, k = draw(2, 2, 2, 5, 8, seed=0)
    index, alpha = torch.arange(5, dtype=torch.float64).view(1, 1, -1), torch.tensor([1.0, 1.7]).view(2, 1, 1)
    theta = frequencies(8, 10_000.0, q)
    *found, kept = rotate_stretched(q, k, index, alpha, theta, None)
    torch.testing.assert_close(tuple(found), rotate_both(q, k, index.unsqueeze(-1) / alpha * theta), rtol=0, atol=0)
    assert kept is None
