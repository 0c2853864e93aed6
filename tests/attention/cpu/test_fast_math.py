"""Logarithm and exponential from bits, against float64: as they are written, and as a compiler makes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from extrapo.attention.cpu.compiler import compile_function
from extrapo.attention.cpu.fast_math import DECOMPOSITIONS, SMALLEST, exp, log, log1p

SPECIAL = torch.tensor([0.0, -0.0, -1.0, -2.0, math.inf, -math.inf, math.nan, 1.0, 3.4e38, 88.73, -87.5, -1e30])

U = torch.rand(2**18, generator=torch.Generator().manual_seed(0))

#: Where a function is called, and where it is hardest.
ARGUMENTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], list[Tensor]]] = {
    "log": (log, torch.log, [(U * 254 - 126).exp2(), 0.5 + U, 1 + U * 1e4]),
    "log1p": (log1p, torch.log1p, [(U * 250 - 125).exp2(), 3 * U, -0.999 * U, -(U * 20 - 21).exp2()]),
    "exp": (exp, torch.exp, [-87.3 * U, 88.7 * U, 1e-3 * (U - 0.5)]),
}


def in_last_place(got: Tensor, expected: Tensor) -> float:
    """The largest error, in units of the last place of what is expected (float64)."""
    place = expected.abs().clamp_min(SMALLEST).log2().floor().exp2() * 2**-23
    return float(((got.double() - expected).abs() / place).max())


def loop(operator: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function as its operator is compiled."""

    def written(x: Tensor, out: Tensor) -> tuple[Tensor, ...]:
        out.copy_(operator(x))
        return ()

    found = compile_function(written, torch.rand(3, 5), torch.rand(3, 5))
    assert found is not None

    def called(x: Tensor) -> Tensor:
        out = torch.empty(4, x.numel() // 4)
        found(x.view(4, -1), out)
        return out.view(-1)

    return called


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_in_the_last_place(name: str, compiled: bool, request: pytest.FixtureRequest) -> None:
    function, operator, arguments = ARGUMENTS[name]
    if compiled:
        request.getfixturevalue("cpp_compiler")
        function = loop(operator)
    for x in arguments:
        assert in_last_place(function(x), operator(x.double())) < 2
    torch.testing.assert_close(function(SPECIAL), operator(SPECIAL), equal_nan=True, rtol=1e-6, atol=1e-37)


def test_what_is_hidden_weighs_nothing() -> None:
    """Not a little: the gradients of later tokens are to be zeros."""
    assert exp(torch.tensor([-math.inf, -87.4, -1e30])).tolist() == [0.0, 0.0, 0.0]


def test_other_dtypes_keep_their_own() -> None:
    for function in DECOMPOSITIONS.values():
        assert function(torch.ones(1, dtype=torch.float64)) is NotImplemented


def test_in_place() -> None:
    x = torch.tensor([1.0, 2.0])
    assert DECOMPOSITIONS[torch.ops.aten.log_.default](x) is x
    torch.testing.assert_close(x, torch.tensor([0.0, math.log(2)]))
