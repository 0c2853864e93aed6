"""The numbers of one layer in few characters: half precision, byte by byte, deflated, base64.

A chunk inflates to a scale (`<f4`), then the high and the low bytes of the bias over that scale, and of the weights,
for each head the lower triangle row by row; then, where tokens drive positions, S_t (H, T), and g_t with gates, as
`<f4`.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extrapo.evaluation.look import LayerLook

#: The mantissa of half precision.
BITS = 10
#: What half precision holds with a margin.
LARGEST = 6e4


def halves(values: NDArray[np.floating[Any]], bits: int) -> NDArray[np.uint16]:
    """float16 bit patterns with the mantissa rounded to so many bits: a relative error of 2^-(bits + 1) at most."""
    patterns = values.astype(np.float16).view(np.uint16)
    if bits == BITS:
        return patterns
    step = 1 << (BITS - bits)
    rounded = ((patterns.astype(np.uint32) + step // 2) & ~np.uint32(step - 1)).astype(np.uint16)
    return np.where(np.isfinite(values), rounded, patterns)


def planes(values: NDArray[np.floating[Any]], bits: int) -> bytes:
    """All high bytes, then all low ones: each sort is alike, which deflates well."""
    patterns = halves(values, bits)
    return (patterns >> 8).astype(np.uint8).tobytes() + (patterns & 255).astype(np.uint8).tobytes()


def chunk(look: LayerLook, bits: int) -> str:
    """One layer at one step."""
    rows, columns = np.tril_indices(look.bias.shape[-1])
    bias, weights = (part[:, rows, columns].ravel() for part in (look.bias, look.weights))
    finite = np.abs(bias[np.isfinite(bias)])
    scale = max(1.0, float(finite.max(initial=0.0)) / LARGEST)
    parts = [np.float32(scale).tobytes(), planes(bias / scale, bits), planes(weights, bits)]
    parts += [one.astype("<f4").tobytes() for one in (look.positions, look.gates) if one is not None]
    return base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()
