"""Exponential and logarithm of fast_math.h against numpy's in double precision: all magnitudes, and no numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from extrapo.attention.cpu.library import library
from extrapo.attention.cpu.source import read

pytestmark = pytest.mark.usefixtures("cpp_compiler")

Numbers = np.ndarray[Any, np.dtype[Any]]

NAMES = {"exponential": np.exp, "logarithm": np.log, "logarithm_of_one_plus": np.log1p}

SMALLEST = float(np.finfo(np.float32).tiny)

U = np.random.default_rng(0).random(2**18)

#: Where a function is called, and where it is hardest.
ARGUMENTS = {
    "exponential": [-87.3 * U, 88.7 * U, 1e-3 * (U - 0.5), -(2.0 ** (U * 126 - 126))],
    "logarithm": [2.0 ** (U * 254 - 126), 0.5 + U, 1 + 1e-3 * (U - 0.5), 1 + U * 1e4],
    "logarithm_of_one_plus": [2.0 ** (U * 250 - 125), 3 * U, -0.999 * U, -(2.0 ** (U * 20 - 21))],
}

SPECIAL = [0.0, -0.0, -1.0, -2.0, np.inf, -np.inf, np.nan, 1.0, 3.4e38, 88.73, -88.0, -1e30, 1e30]


@lru_cache(maxsize=1)
def loops() -> ctypes.CDLL:
    """Each function over numbers, in both precisions, as compilers make vectors of them."""
    loop = """
extern "C" void {name}_{real}(long length, const {real} *x, const {real} *y, {real} *out) {{
    for (long n = 0; n < length; ++n) out[n] = {name}(x[n]{second});
}}"""
    seconds = {**dict.fromkeys(NAMES, ""), "power_of": ", y[n]"}
    kinds = ("float", "double")
    text = [loop.format(name=name, real=real, second=y) for name, y in seconds.items() for real in kinds]
    return library("\n".join([read("fast_math.h"), *text]))


def call(name: str, x: Numbers, y: Numbers | None = None) -> Numbers:
    out, x = np.empty_like(x), np.ascontiguousarray(x)
    y = x if y is None else np.ascontiguousarray(y)
    real = {"float32": "float", "float64": "double"}[x.dtype.name]
    function = getattr(loops(), f"{name}_{real}")
    function(ctypes.c_long(x.size), *(ctypes.c_void_p(a.ctypes.data) for a in (x, y, out)))
    return out


def in_last_place(got: Numbers, expected: Numbers) -> float:
    """The largest error, in units of the last place of what is expected (double precision)."""
    place = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(expected), SMALLEST))) - 23)
    return float((np.abs(got - expected) / place).max())


@pytest.mark.parametrize("name", NAMES)
def test_two_in_the_last_place(name: str) -> None:
    for wide in ARGUMENTS[name]:
        x = wide.astype(np.float32)
        assert in_last_place(call(name, x), NAMES[name](x.astype(np.float64))) < 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_number_or_none_to_be_had(name: str, dtype: type) -> None:
    x = np.array(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        expected = NAMES[name](x)
    np.testing.assert_allclose(call(name, x), expected, rtol=1e-6, atol=1e-37)
    double = x.astype(np.float64)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(call(name, double), NAMES[name](double), rtol=1e-15)


def test_what_is_hidden_weighs_nothing() -> None:
    """Not a little: the gradients of later tokens are to be zeros."""
    assert call("exponential", np.array([-np.inf, -87.4, -1e30], np.float32)).tolist() == [0.0, 0.0, 0.0]


def test_far_out_all_magnitudes_are_0_or_infinite() -> None:
    x = (2.0 ** (7 + U * 121)).astype(np.float32)
    assert (call("exponential", -x) == 0).all()
    assert (call("exponential", x) == np.inf).all()
    # The smallest numbers count as 0: their logarithm is that of 0.
    assert (call("logarithm", np.array([1e-40, 1e-45], np.float32)) == -np.inf).all()


def test_monotone_where_two_ways_meet() -> None:
    """Around the ends of what is computed, and around sqrt(1/2), where the exponent changes."""
    for name, middle in (("exponential", -87.33654), ("exponential", 88.72283), ("logarithm", np.sqrt(0.5))):
        x = np.sort((middle + 1e-4 * (U - 0.5)).astype(np.float32))
        y = call(name, x)
        # Infinities side by side are no step.
        y = y[np.isfinite(y)]
        assert (np.diff(y) >= -2 * np.spacing(np.abs(y[:-1]))).all()


@pytest.mark.parametrize("y", [0.3, 0.5, 1.7, 2.0, -0.4])
def test_powers(y: float) -> None:
    """The error of a logarithm is that of its power's exponent: relative to the size of y ln x."""
    x = (2.0 ** (U * 60 - 30)).astype(np.float32)
    exponent = np.full_like(x, y)
    got = call("power_of", x, exponent).astype(np.float64)
    wide = x.astype(np.float64) ** exponent.astype(np.float64)
    bound = 2.0**-23 * (2 + 2 * np.abs(y * np.log(x.astype(np.float64))))
    assert (np.abs(got / wide - 1) <= bound).all()


@pytest.mark.parametrize("power", [np.float32, np.float64])
def test_powers_of_what_is_no_number(power: Callable[..., Numbers]) -> None:
    pairs = [(0, 0), (0, 2), (0, -1), (np.inf, 2), (np.inf, -2), (np.nan, 1), (1, 1), (-2, 3), (-2, 2), (2, np.inf)]
    x, y = (np.array(column, power) for column in zip(*pairs, strict=True))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(call("power_of", x, y), np.power(x, y), rtol=1e-6)
