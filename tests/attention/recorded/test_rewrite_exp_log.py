"""Logarithms that are taken away: which are, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from extrapo.attention.recorded.rewrite_exp_log import rewrite_exp_log

X, Y = (torch.rand(3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (0, 1))

#: A function, and the logarithms that are taken away in its last sum.
CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "one": (lambda x, y: x - (1 + y).log(), 1),
    "of one more": (lambda x, y: x + -torch.log1p(y * y), 1),
    "two, in any order": (lambda x, y: -(y + 2).log() + (x - (torch.log1p(y) + y)), 2),
    "in place": (lambda x, y: x + y.square().add_(1).log_().neg_(), 1),
    "one that is added": (lambda x, y: x + (1 + y).log(), 0),
    "one that is taken away twice over": (lambda x, y: x - -(1 + y).log(), 0),
    "one under a factor": (lambda x, y: x - 2 * (1 + y).log(), 0),
    "one within": (lambda x, y: (x - (1 + y).log()).tanh(), 0),
    "one alone": (lambda x, y: -(x + y).log(), 0),
    "the same, added and taken away": (lambda x, y: both((1 + y).log(), x), 1),
    "with a number": (lambda x, y: x - 3.0 - torch.log1p(y), 1),
    "a row of them": (lambda x, y: x - torch.log1p(y[:1]), 1),
    "none": (lambda x, y: x * y, 0),
}


def both(logarithm: Tensor, x: Tensor) -> Tensor:
    return x + logarithm - logarithm


@pytest.mark.parametrize("case", CASES)
def test_the_parts_are_the_whole(case: str) -> None:
    function, count = CASES[case]
    first, *divisors = rewrite_exp_log(function, X, Y)(X, Y)
    assert len(divisors) == count
    whole = first
    for divisor in divisors:
        whole = whole - divisor.log()
    torch.testing.assert_close(whole.expand(3, 5), function(X, Y), rtol=1e-12, atol=1e-12)


def test_any_size() -> None:
    found = rewrite_exp_log(CASES["one"][0], X, Y)
    first, divisor = found(X[:2, :3], Y[:2, :3])
    torch.testing.assert_close(first, X[:2, :3])
    torch.testing.assert_close(divisor, 1 + Y[:2, :3])
