"""Numbers in few characters come back as they were, to the precision that is stated."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer.pack import BITS, chunk, halves


@given(st.floats(6.2e-5, 6e4), st.sampled_from([4, 6, BITS]), st.booleans())
def test_rounding_stays_within_the_stated_precision(value: float, bits: int, negative: bool) -> None:
    signed = -value if negative else value
    (pattern,) = halves(np.array([signed]), bits)
    back = float(np.uint16(pattern).view(np.float16))
    assert abs(back - signed) <= abs(signed) * (2.0 ** -(bits + 1) + 2.0**-11 * (bits < BITS))


def test_what_is_not_seen_stays_so() -> None:
    values = np.array([-np.inf, 0.0, -0.0])
    assert halves(values, 4).view(np.float16).tolist() == [-np.inf, 0.0, 0.0]


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_chunk_is_the_layer(drawn: Callable[..., LayerLook], scale: float) -> None:
    look = drawn()
    look = LayerLook(look.bias * scale, look.weights, look.positions)
    plain = zlib.decompress(base64.b64decode(chunk(look, BITS)))
    (factor,) = np.frombuffer(plain, "<f4", 1)
    count = 2 * 16 * 17 // 2
    high, low = np.frombuffer(plain, np.uint8, 2 * count, 4).reshape(2, -1).astype(np.uint16)
    bias = (high << 8 | low).view(np.float16).astype(np.float64) * factor
    rows, columns = np.tril_indices(16)
    np.testing.assert_allclose(bias, look.bias[:, rows, columns].ravel(), rtol=2e-3)
    positions = np.frombuffer(plain, "<f4", 32, 4 + 4 * count)
    np.testing.assert_allclose(positions, look.positions.ravel(), rtol=1e-6)
