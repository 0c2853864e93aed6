"""Exponential, logarithm and powers of the compiled loops, beside double precision, over all magnitudes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from extrapo.attention.cpu.library import library
from extrapo.attention.cpu.source import read

Numbers = np.ndarray[Any, np.dtype[Any]]

LOOP = """
extern "C" void {name}_of(const float *x, float *y, long length, float p) {{
    for (long n = 0; n < length; ++n) y[n] = {call};
}}
"""

CALLS = {
    "exponential": "exponential(x[n])",
    "logarithm": "logarithm(x[n])",
    "logarithm_of_one_plus": "logarithm_of_one_plus(x[n])",
    "power_of": "power_of(x[n], p)",
}


@pytest.fixture(scope="module")
def apply(cpp_compiler: None) -> Callable[..., Numbers]:
    """A function of the header over an array."""
    loops = (LOOP.format(name=name, call=call) for name, call in CALLS.items())
    compiled = library(read("fast_math.h") + "".join(loops))

    def of(name: str, x: Numbers, p: float = 0.0) -> Numbers:
        x, y = np.ascontiguousarray(x, dtype=np.float32), np.empty(len(x), np.float32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, y)]
        getattr(compiled, f"{name}_of")(*pointers, ctypes.c_long(len(x)), ctypes.c_float(p))
        return y

    return of


def ulps(got: Numbers, expected: Numbers) -> float:
    """The largest distance from what is right, in units of its last place."""
    return float(np.max(np.abs(got.astype(np.float64) - expected) / np.spacing(np.abs(expected).astype(np.float32))))


def magnitudes(count: int = 40_001) -> Numbers:
    return np.exp(np.linspace(np.log(1.2e-38), np.log(3.4e38), count)).astype(np.float32)


def test_exponential(apply: Callable[..., Numbers]) -> None:
    x = np.linspace(-87.3, 88.7, 100_001).astype(np.float32)
    assert ulps(apply("exponential", x), np.exp(x.astype(np.float64))) <= 2
    small = np.concatenate([magnitudes()[:20_000], -magnitudes()[:20_000]])
    assert ulps(apply("exponential", small), np.exp(small.astype(np.float64))) <= 2


def test_exponential_far_out(apply: Callable[..., Numbers]) -> None:
    x = np.array([-88, -104, -1e10, -np.inf, 89, 1e10, np.inf, np.nan, 0])
    right = np.array([0, 0, 0, 0, np.inf, np.inf, np.inf, np.nan, 1])
    np.testing.assert_array_equal(apply("exponential", x), right)


def test_logarithm(apply: Callable[..., Numbers]) -> None:
    for x in (magnitudes(), np.linspace(0.5, 2, 100_000).astype(np.float32)):
        assert ulps(apply("logarithm", x), np.log(x.astype(np.float64))) <= 2
    x = np.array([0, 1, -1, np.inf, np.nan])
    np.testing.assert_array_equal(apply("logarithm", x), np.array([-np.inf, 0, np.nan, np.inf, np.nan]))


def test_logarithm_of_one_plus(apply: Callable[..., Numbers]) -> None:
    assert ulps(apply("logarithm_of_one_plus", magnitudes()), np.log1p(magnitudes().astype(np.float64))) <= 3
    x = np.array([0, -1, -2, np.inf])
    np.testing.assert_array_equal(apply("logarithm_of_one_plus", x), np.array([0, -np.inf, np.nan, np.inf]))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 1.0, 1.7, 2.0])
def test_power(apply: Callable[..., Numbers], p: float) -> None:
    """The error of a power is that of its logarithm times the exponent."""
    x = np.exp(np.linspace(np.log(1e-6), np.log(1e6), 20_001)).astype(np.float32)
    right = x.astype(np.float64) ** np.float64(np.float32(p))
    assert np.max(np.abs(apply("power_of", x, p) / right - 1)) <= 4e-6
    np.testing.assert_array_equal(apply("power_of", np.zeros(3), p), np.zeros(3))
