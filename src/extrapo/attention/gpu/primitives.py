"""Primitives: what the generated kernels call, in Triton."""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

#: Triton's interpreter runs on a CPU, without machine instructions and without products of bfloat16.
INTERPRETED = tl.constexpr(bool(knobs.runtime.interpret))

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def log2(x):
    """By the instruction: Triton's own is a polynomial of a dozen products, for digits that a logit does not show."""
    if INTERPRETED:
        return tl.log2(x)
    return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def log(x):
    """ln x."""
    return log2(x) * LN_2


@triton.jit
def log1p(x):
    """ln(1 + x), to the digits of a small x (Kahan)."""
    one = 1.0 + x
    return tl.where(one == 1.0, x, tl.log(one) * x / tl.where(one == 1.0, 1.0, one - 1.0))


@triton.jit
def inverse(x):
    """1 / x, by the instruction."""
    if INTERPRETED:
        return 1.0 / x
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def exp(x):
    """e^x."""
    return tl.exp2(x * LOG2_E)


@triton.jit
def power(x, y):
    """x^y for x >= 0; 0^0 is 1."""
    # Finite at 0, for 0 times an infinite one would be no number.
    return tl.exp2(y * tl.maximum(log2(x), -1e30, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def sign(x):
    """-1, 0 or 1."""
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0))


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """a b in float32: products of half precision are exact, those of float32 as PRECISION says."""
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def dot_onto(c, a, b, PRECISION: tl.constexpr):
    """c + a b, of what broadcasts to the product: the sum begins with c, and nothing is added to it afterwards."""
    c = tl.broadcast_to(c, [a.shape[0], b.shape[1]])
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), c, input_precision="ieee")
    return tl.dot(a, b, c, input_precision=PRECISION)


@triton.jit
def tokens(pointer, at, stride, end, CHECKED: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """The numbers (n, COLUMNS) of tokens `at`: zeros from `end` on, where that is CHECKED, and beyond WIDTH."""
    column = tl.arange(0, COLUMNS)
    places = pointer + at[:, None].to(tl.int64) * stride + column[None, :]
    if CHECKED:
        return tl.load(places, mask=(at[:, None] < end) & (column[None, :] < WIDTH), other=0.0)
    if COLUMNS != WIDTH:
        return tl.load(places, mask=column[None, :] < WIDTH, other=0.0)
    return tl.load(places)


@triton.jit
def keep(pointer, at, stride, end, x, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """Write the numbers (n, COLUMNS) of tokens `at` before `end`."""
    column = tl.arange(0, COLUMNS)
    places = pointer + at[:, None].to(tl.int64) * stride + column[None, :]
    tl.store(places, x.to(pointer.dtype.element_ty), mask=(at[:, None] < end) & (column[None, :] < WIDTH))


@triton.jit
def numbers(pointer, at, stride, end, CHECKED: tl.constexpr):
    """One number of each of the tokens `at`; zeros from `end` on, where that is CHECKED."""
    if CHECKED:
        return tl.load(pointer + at * stride, mask=at < end, other=0.0)
    return tl.load(pointer + at * stride)
