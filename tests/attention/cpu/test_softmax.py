"""Both softmaxes of a tile against the formula, first and again, over what they read and beside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from extrapo.attention.cpu.softmax import CompiledSoftmax, StockSoftmax, softmax


def draw() -> Tensor:
    """Logits far apart, the last key hidden from all rows but one."""
    logits = 30 * torch.randn(2, 3, 4, 9, generator=torch.Generator().manual_seed(0))
    logits[..., :-1, -1] = -math.inf
    return logits


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("in_place", [True, False])
def test_equals_the_formula(compiled: bool, dtype: torch.dtype, in_place: bool, request: pytest.FixtureRequest) -> None:
    if compiled:
        request.getfixturevalue("cpp_compiler")
    how, logits = softmax(dtype, compiled), draw().to(dtype)
    assert isinstance(how, CompiledSoftmax) == compiled
    expected = logits.double().softmax(-1)
    tolerance = {"rtol": 3e-6, "atol": 1e-30} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-30}

    copied = logits.clone()
    out = copied if in_place else torch.full_like(copied, math.nan)
    total, lse = how.first(copied, out)
    assert total.shape == lse.shape == (2, 3, 4, 1)
    torch.testing.assert_close((out / total).double(), expected, **tolerance)

    copied = logits.clone()
    out = copied if in_place else torch.full_like(copied, math.nan)
    assert how.from_lse(copied, lse, out) is out
    # log-sum-exp is as large as the largest logit: it is rounded so.
    torch.testing.assert_close(out.double(), expected, rtol=2e-5 if dtype == torch.float32 else 1e-13, atol=1e-30)
    assert (out[..., :-1, -1] == 0).all()


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
def test_one_loop_for_all() -> None:
    first, again = softmax(torch.float32, True), softmax(torch.float32, True)
    assert isinstance(first, CompiledSoftmax)
    assert isinstance(again, CompiledSoftmax)
    assert first.loop is again.loop


def test_without_a_compiler() -> None:
    assert isinstance(softmax(torch.float32, False), StockSoftmax)
