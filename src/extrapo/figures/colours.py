"""One fixed colour per encoding, the same in pictures, in MLflow and in notebooks."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Mapping

COLOURS: Mapping[str, str] = {
    "nope": "#7f7f7f",
    "sinusoidal": "#b5a800",
    "learned": "#8c564b",
    "rope": "#1f6fd0",
    "alibi": "#ff8c1a",
    "cable": "#d81e2c",
    "cable-weighted": "#7d0a22",
    "cable-nw": "#f48fb1",
    "k-cable": "#7b3fc4",
    "adaptive": "#12b5c9",
    "rope+k-cable": "#1b1f8a",
    "t5": "#2e9e3f",
    "kerple-log": "#0b5d3b",
    "kerple-power": "#8fce5a",
    "fire": "#b8692a",
    "fox": "#111111",
    "path": "#d936c4",
}


def colour(encoding: str) -> str:
    """The colour of an encoding as `#rrggbb`: picked by hand for the well-known, a stable hash for others."""
    if encoding in COLOURS:
        return COLOURS[encoding]
    digest = hashlib.sha256(encoding.encode()).digest()
    hue, lightness, saturation = digest[0] / 256, 0.35 + 0.25 * digest[1] / 256, 0.45 + 0.35 * digest[2] / 256
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, lightness, saturation))
