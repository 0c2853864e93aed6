"""What more context is worth: the picture says numbers that can be read, however many lengths there are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from extrapo.figures.curves import curve_figure
from extrapo.figures.gain import gain_figure
from extrapo.figures.pixels import to_array


def rows(lengths: list[int]) -> list[dict[str, Any]]:
    return [
        {"length": length, "nll": 3 - 0.1 * i, "ppl": float(np.exp(3 - 0.1 * i))} for i, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    "lengths",
    [
        [64 * i for i in range(1, 51)],
        [2**i for i in range(6, 18)],
        [131_072 * i for i in range(1, 9)],
        [8192 + 64 * i for i in range(30)],
        [512],
        [64, 128],
    ],
)
@pytest.mark.parametrize("figure_of", [gain_figure, curve_figure])
def test_the_numbers_below_stand_apart(figure_of: Any, lengths: list[int]) -> None:
    names = ("nope", "k-cable", "accumulated-rotation", "rope+k-cable, layers 6")
    figure = figure_of(dict.fromkeys(names, rows(lengths)), train_length=lengths[0], title="")
    to_array(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert boxes
    assert all(one.x1 < other.x0 for one, other in pairwise(sorted(boxes, key=lambda box: float(box.x0))))


def test_the_gain_is_the_loss_at_the_shortest_length_less_that_at_each() -> None:
    curve = [*rows([64, 128, 256]), {"length": 512, "nll": None}, {"length": 1024, "nll": float("nan")}]
    figure = gain_figure({"nope": curve}, train_length=128, title="")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "nope")
    np.testing.assert_allclose(line.get_xydata(), [[64, 0.0], [128, 0.1], [256, 0.2]])  # type: ignore[arg-type]


def test_of_one_length_there_is_no_line() -> None:
    figure = gain_figure({"nope": rows([64])}, train_length=64, title="")
    assert [line.get_label() for line in figure.axes[0].lines if line.get_label() == "nope"] == []
