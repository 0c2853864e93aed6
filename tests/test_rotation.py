"""Rotations: they keep lengths, add up, undo each other, and depend on differences of angles alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo.errors import UserError
from extrapo.rotation import Layout, frequencies, require_even, rotate

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


def test_only_cosine_and_sine_are_rounded() -> None:
    far = torch.tensor([[1e6]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16)
    assert rotate(x, far).tolist() == torch.tensor([[math.cos(1e6), math.sin(1e6)]]).bfloat16().tolist()


def test_frequencies() -> None:
    expected = [100.0 ** (-2 * c / 6) for c in range(3)]
    assert frequencies(6, 100.0, torch.zeros(1)).tolist() == pytest.approx(expected, rel=1e-12)


def test_odd_width() -> None:
    require_even(8, "rope")
    with pytest.raises(UserError, match=r"encoding 'rope'.*must be even, not 7"):
        require_even(7, "rope")
