"""Logarithm and exponential of compiled loops: single precision, from the bits of a number (Cephes; Moshier 1992).

What a compiler calls for them is right to the last bit, for every number, and takes as long as all else in a tile.
These are right to two in the last place, and numbers below 2^-126 count as 0, as they do in every thread that computes
tiles. Other dtypes keep what they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

SMALLEST, LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max

#: ln 2 in two parts: the first has so few bits that a whole number times it is exact.
LN2, LN2_REST = 0.693359375, -2.12194440e-4

#: (ln(1 + x) - x + x^2 / 2) / x^3 between sqrt(1/2) - 1 and sqrt(2) - 1, highest power first.
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip

#: (e^x - 1 - x) / x^2 up to ln(2) / 2 from 0, highest power first.
EXP = 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1

#: The bits of sqrt(1/2), from where to sqrt(2) a number is its own mantissa; of -infinity, and what makes it no number.
ROOT_HALF, MINUS_INFINITY, NO_NUMBER = 0x3F3504F3, -0x00800000, 0x00400000

#: Added to a number below 2^22 it leaves that number, rounded, in the lowest bits: 1.5 x 2^23.
ROUNDING = 12582912.0


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """sum of c_n x^n, highest power first: even and odd powers apart (Horner), two chains of half the length."""
    rising = coefficients[::-1]
    square = x * x
    return horner(square, rising[1::2][::-1]) * x + horner(square, rising[::2][::-1])


def horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """sum of c_n x^n, highest power first."""
    total = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        total = total * x + c
    return total


def log(x: Tensor) -> Tensor:
    """ln x: of x = 2^n (1 + y), n ln 2 + ln(1 + y)."""
    bits = x.view(torch.int32)
    exponent = (bits - ROOT_HALF) >> 23
    y = (bits - (exponent << 23)).view(torch.float32) - 1
    n, square = exponent.to(torch.float32), y * y
    logarithm = y + (polynomial(y, LOG) * y * square - 0.5 * square + n * LN2_REST) + n * LN2
    # Infinities are written as bits: a graph that has one as a constant is compiled anew in every process.
    nothing = ((x < 0).to(torch.int32) * NO_NUMBER + MINUS_INFINITY).view(torch.float32)
    return torch.where(x < SMALLEST, nothing, torch.where(x <= LARGEST, logarithm, x))


def log1p(x: Tensor) -> Tensor:
    """ln(1 + x): the logarithm of the sum, and what its rounding left over."""
    total = 1 + x
    logarithm = log(total)
    return torch.where((total > 0) & (total <= LARGEST), logarithm + (x - (total - 1)) / total, logarithm)


def exp(x: Tensor) -> Tensor:
    """e^x: of x = n ln 2 + y, 2^n e^y; exactly 0 where that is below 2^-126."""
    rounded = x * math.log2(math.e) + ROUNDING
    n = rounded - ROUNDING
    y = x - n * LN2 - n * LN2_REST
    power = polynomial(y, EXP) * (y * y) + y + 1
    power = (power.view(torch.int32) + (rounded.view(torch.int32) << 23)).view(torch.float32)
    power = torch.where(x < math.log(LARGEST), power, x * LARGEST)
    # Further out the bits above are anything.
    return torch.where(x < math.log(SMALLEST), 0.0, power)


_few = ContextVar("few", default=False)


@contextmanager
def of_few_numbers() -> Iterator[None]:
    """What is traced here keeps the compiler's own functions: a call, not some twenty operations to be traced again
    and again, for what is no part of the long loop.
    """
    token = _few.set(True)
    try:
        yield
    finally:
        _few.reset(token)


def for_single_precision(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    """The function in place of an operator: other dtypes are left to it."""

    def chosen(x: Tensor) -> Any:
        return function(x) if x.dtype == torch.float32 and not _few.get() else NotImplemented

    return chosen


def in_place(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    """The same over the argument."""
    return for_single_precision(lambda x: x.copy_(function(x)))


#: What operators are made of, see `private.record`.
DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.log.default: for_single_precision(log),
    torch.ops.aten.log_.default: in_place(log),
    torch.ops.aten.log1p.default: for_single_precision(log1p),
    torch.ops.aten.log1p_.default: in_place(log1p),
    torch.ops.aten.exp.default: for_single_precision(exp),
    torch.ops.aten.exp_.default: in_place(exp),
}
