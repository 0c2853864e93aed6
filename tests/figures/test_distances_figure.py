"""The picture of a task by distance has a line per length, with chance beside it."""

from __future__ import annotations

import math

import pytest

from extrapo.figures.distances import distances_figure


def row(length, distance, accuracy, nll=2.0):
    sure = {"low": None if accuracy is None else 0.1, "high": None if accuracy is None else 0.9}
    return {"length": length, "distance": distance, "accuracy": accuracy, "chance": 0.2, "nll": nll, **sure}


def test_a_line_per_length_at_the_middles_of_the_distances(texts):
    rows = [row(256, "65-128", 0.5), row(256, "129-256", 0.25, 3.0), row(128, "65-128", 0.75)]
    # A length that the model does not have has no distance.
    rows.append({"length": 512, "accuracy": None, "low": None, "high": None, "chance": 0.2})
    figure = distances_figure(rows, train_length=128, title="rope: story-recall")
    shares, losses = figure.axes
    short, chance, long, _, mark = shares.lines
    assert list(short.get_ydata()) == [0.75]
    assert list(chance.get_ydata()) == [0.2]
    assert list(long.get_ydata()) == [0.5, 0.25]
    assert list(long.get_xdata()) == pytest.approx([math.sqrt(65 * 128), math.sqrt(129 * 256)])
    assert list(mark.get_xdata()) == [128, 128]
    assert list(losses.lines[1].get_ydata()) == [2.0, 3.0]
    said = texts(figure)
    for part in ("rope: story-recall", "T = 128", "length", "256", "chance"):
        assert part in said
    assert "512" not in said


def test_without_any_there_is_an_empty_picture():
    figure = distances_figure([], train_length=4, title="")
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]
