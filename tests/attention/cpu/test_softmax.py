"""Both softmaxes of a tile against the formula, first and again, over what they read and beside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from extrapo.attention.cpu.compiler import has_compiler
from extrapo.attention.cpu.softmax import Exponentials, Softmax, softmax

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

BOTH = [False, pytest.param(True, marks=needs_compiler)]


def draw() -> Tensor:
    """Logits far apart, the last key hidden from all rows but one."""
    logits = 30 * torch.randn(2, 3, 4, 9, generator=torch.Generator().manual_seed(0))
    logits[..., :-1, -1] = -math.inf
    return logits


@pytest.mark.parametrize("compiled", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("in_place", [True, False])
def test_equals_the_formula(compiled: bool, dtype: torch.dtype, in_place: bool) -> None:
    how, logits = softmax(dtype, compiled), draw().to(dtype)
    assert isinstance(how, Exponentials) == compiled
    expected = logits.double().softmax(-1)
    tolerance = {"rtol": 3e-6, "atol": 1e-30} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-30}

    given = logits.clone()
    out = given if in_place else torch.full_like(given, math.nan)
    total, kept = how.first(given, out)
    assert total.shape == kept.shape == (2, 3, 4, 1)
    torch.testing.assert_close((out / total).double(), expected, **tolerance)

    given = logits.clone()
    out = given if in_place else torch.full_like(given, math.nan)
    assert how.again(given, kept, out) is out
    # log-sum-exp is as large as the largest logit: it is rounded so.
    torch.testing.assert_close(out.double(), expected, rtol=2e-5 if dtype == torch.float32 else 1e-13, atol=1e-30)
    assert (out[..., :-1, -1] == 0).all()


@needs_compiler
def test_one_loop_for_all() -> None:
    assert softmax(torch.float32, True).loop is softmax(torch.float32, True).loop  # type: ignore[attr-defined]


def test_without_a_compiler() -> None:
    assert type(softmax(torch.float32, False)) is Softmax
