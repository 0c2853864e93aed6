"""The pictures of theory: what they show, and that their lines are told apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from extrapo.figures.style import MOST
from extrapo.figures.theory import theory_figures
from extrapo.figures.theory_coherence import coherence_figure
from extrapo.figures.theory_far_mass import far_mass_figure
from extrapo.figures.theory_layers import of_layers

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
    ("window", "said"),
    [(22.0, "W(0.1) = 22"), (4e7, "40,000,000 tokens, beyond"), (math.inf, "no mixing"), (None, "no mixing")],
)
def test_the_mixing_window_is_marked(window: float | None, said: str) -> None:
    (axes,) = coherence_figure(turned(window), encoding="rope", train_length=64).axes
    assert any(said in text.get_text() for text in axes.texts)
    assert axes.get_xlim()[1] < 128, "a window far away leaves the lines a corner"


def test_every_format_and_nothing_without_rows(tmp_path: Path) -> None:
    fields = [{"length": 64, "cumulative": [[1, 0.5], [64, 1.0]], "erf_99": 60, "texts": 1}]
    paths = theory_figures({**SAID, "fields": fields, "heads": []}, tmp_path)
    assert {path.name for path in paths} == {f"receptive-field.{kind}" for kind in ("png", "svg", "pdf")}
    assert all(path.stat().st_size > 1000 for path in paths)
