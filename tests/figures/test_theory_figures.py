"""The pictures of theory: what they show, and that their lines are told apart."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import Any

import pytest

from extrapo.figures.theory import theory_figures
from extrapo.figures.theory_coherence import coherence_figure
from extrapo.figures.theory_far_mass import far_mass_figure
from extrapo.figures.theory_layers import of_layers
from extrapo.figures.theory_style import COLOURS, DASHES, MARKERS, MOST, line_style

SAID = {"encoding": "rope", "train_length": 64, "corpus": "a text"}


def heads(layers: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "length": n,
            "layer": layer,
            "head": head,
            "far_mass": 1 - 64 / n / (1 + head),
            "near": 64,
            "texts": 2,
            "queries": 8,
        }
        for n in (64, 128, 256)
        for layer in range(layers)
        for head in range(2)
    ]


def turned(window: float | None) -> list[dict[str, Any]]:
    return [
        {"distance": n, "layer": 0, "head": 0, "coherence": 0.9**n, "of_independent_steps": 0.9**n, "mixing_10": window}
        for n in (1, 2, 4)
    ]


def test_a_line_per_layer_with_the_band_of_its_heads() -> None:
    (axes,) = far_mass_figure(heads(), **SAID).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn["layer 0"] == pytest.approx([0.25, 0.625, 0.8125])
    assert any("T = 64" in text.get_text() for text in axes.texts)
    assert len(axes.collections) == 2


def test_of_many_layers_the_first_the_last_and_some_between() -> None:
    assert list(of_layers(heads(20), "length", "far_mass"))[:: MOST - 1] == ["layer 0", "layer 19"]
    missing = [{**row, "far_mass": None} for row in heads()]
    assert of_layers(missing, "length", "far_mass") == {}


@pytest.mark.parametrize(
    ("window", "said"), [(22.0, "W(0.1) = 22"), (4e7, "4e+07"), (math.inf, "no mixing"), (None, "no mixing")]
)
def test_the_mixing_window_is_marked(window: float | None, said: str) -> None:
    (axes,) = coherence_figure(turned(window), encoding="rope", train_length=64).axes
    assert any(said in text.get_text() for text in axes.texts)


def test_every_format_and_nothing_without_rows(tmp_path: Path) -> None:
    fields = [{"length": 64, "cumulative": [[1, 0.5], [64, 1.0]], "erf_99": 60, "texts": 1}]
    paths = theory_figures({**SAID, "fields": fields, "heads": []}, tmp_path)
    assert {path.name for path in paths} == {f"receptive-field.{kind}" for kind in ("png", "svg", "pdf")}
    assert all(path.stat().st_size > 1000 for path in paths)


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


@pytest.mark.parametrize("seen", [SIGHT, DEUTERANOPIA, PROTANOPIA])
def test_colours_differ_for_the_colour_blind_too(seen: tuple[tuple[float, ...], ...]) -> None:
    values = [lab(colour, seen) for colour in COLOURS]
    apart = min(math.dist(a, b) for i, a in enumerate(values) for b in values[:i])
    assert apart > 10
    assert len(set(MARKERS)) == len(set(map(str, DASHES))) == len(COLOURS) == MOST
    assert line_style(0) != line_style(1)
    assert all(colorsys.rgb_to_hls(*(c / 255 for c in bytes.fromhex(colour[1:])))[1] < 0.75 for colour in COLOURS)
