"""Colours are told apart by eye and never change."""

import itertools
import re
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from extrapo.figures.colours import COLOURS, colour


def lab(code: str) -> tuple[float, float, float]:
    """CIE L*a*b* of #rrggbb."""
    srgb = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in srgb)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_known_colours_are_far_apart_and_visible_on_white():
    labs = {name: lab(code) for name, code in COLOURS.items()}
    for one, other in itertools.combinations(labs, 2):
        distance = sum((p - q) ** 2 for p, q in zip(labs[one], labs[other], strict=True)) ** 0.5
        assert distance > 20, (one, other, distance)
    assert all(lightness < 80 for lightness, _, _ in labs.values())


@given(st.text(max_size=30))
def test_any_name_has_a_colour(name):
    assert re.fullmatch("#[0-9a-f]{6}", colour(name))


def test_an_unknown_name_has_the_same_colour_in_another_process():
    code = "from extrapo.figures.colours import colour; print(colour('my-own'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == colour("my-own")
