"""Lines are told apart by eye, also by the colour-blind, and never change."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.encodings import names
from extrapo.encodings.family import family
from extrapo.figures.style import (
    COLOURS,
    DASHES,
    MARKERS,
    MOST,
    NUMBERED,
    colour,
    encoding_style,
    line_style,
)
from extrapo.known import FAMILIES, known

#: What the two rarer kinds of cone leave: Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
SIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def lab(colour: str, seen: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in bytes.fromhex(colour[1:])]
    r, g, b = (min(1.0, max(0.0, sum(m * c for m, c in zip(row, linear, strict=True)))) for row in seen)
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505
    y, z = 0.2126 * r + 0.7152 * g + 0.0722 * b, (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize(("seen", "apart"), [(SIGHT, 30), (DEUTERANOPIA, 18), (PROTANOPIA, 18)])
def test_named_colours_are_far_apart_and_visible_on_white(seen: tuple[tuple[float, ...], ...], apart: float) -> None:
    labs = {name: lab(code, seen) for name, code in COLOURS.items()}
    least = min((math.dist(labs[a], labs[b]), a, b) for a in labs for b in labs if a < b)
    assert least[0] > apart, least
    assert all(lightness < 80 for lightness, _, _ in labs.values())


@pytest.mark.parametrize("seen", [SIGHT, DEUTERANOPIA, PROTANOPIA])
def test_numbered_lines_differ_in_colour_marker_and_dash(seen: tuple[tuple[float, ...], ...]) -> None:
    values = [lab(code, seen) for code in NUMBERED]
    assert min(math.dist(a, b) for i, a in enumerate(values) for b in values[:i]) > 10
    assert len(set(MARKERS)) == len(set(map(str, DASHES))) == len(FAMILIES) >= len(NUMBERED) == MOST
    assert line_style(0) != line_style(1)
    assert all(lightness < 80 for lightness, _, _ in values)


def test_every_encoding_has_a_family_and_its_marker() -> None:
    found = {name: family(name) for name in names()}
    assert found == {name: known(name)[0].family for name in names()}
    assert set(found.values()) == set(FAMILIES)
    expected = {"alibi": "static bias", "rope": "rotation", "k-cable": "contextual bias", "nope": "no position"}
    assert {name: found[name] for name in expected} == expected
    assert found["accumulated-rotation"] == "contextual transform"
    assert found["stick-breaking"] == "own logits"
    assert family("rope+k-cable") == "contextual bias"
    assert encoding_style("my own")["marker"] == encoding_style("stick-breaking")["marker"]
    assert encoding_style("alibi")["marker"] != encoding_style("rope")["marker"]


def test_lines_of_one_encoding_are_told_apart() -> None:
    mixed = ["cable, layers 2", "cable, layers 4", "rope"]
    styles = [encoding_style(name, mixed) for name in mixed]
    assert styles[0]["color"] == styles[1]["color"] == colour("cable")
    assert styles[0]["marker"] != styles[1]["marker"]
    alone = [encoding_style(name, mixed[:2]) for name in mixed[:2]]
    assert alone[0]["color"] != alone[1]["color"]


@given(st.text(max_size=30))
def test_any_name_has_a_colour(name: str) -> None:
    assert re.fullmatch("#[0-9a-f]{6}", colour(name))


@pytest.mark.slow
def test_an_unknown_name_has_the_same_colour_in_another_process() -> None:
    code = "from extrapo.figures.style import colour; print(colour('my-own'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == colour("my-own")
