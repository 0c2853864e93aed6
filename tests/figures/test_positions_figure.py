"""The picture of the loss by position holds a line per length, at the middles of its bins."""

import math

from extrapo import figures


def at(first, last, nll, **more):
    return {"first": first, "last": last, "nll": nll, "low": None, "high": None, "tokens": 9, **more}


def test_a_line_per_length_with_its_band(texts):
    sure = {"low": 2.9, "high": 3.1}
    rows = [
        {"length": 8, "positions": [at(1, 1, 5.0), at(2, 2, 4.0), at(3, 4, 3.5), at(5, 8, 3.25)]},
        {"length": 4, "positions": [at(1, 1, 5.0, low=4.5, high=5.5), at(2, 2, math.inf), at(3, 4, 3.0, **sure)]},
        {"length": 16, "nll": None},
    ]
    figure = figures.positions_figure(rows, train_length=4, title="the title")
    short, long, mark = figure.axes[0].lines
    assert [round(x, 6) for x in short.get_xdata()] == [1, round(math.sqrt(12), 6)]
    assert list(short.get_ydata()) == [5.0, 3.0]
    assert list(long.get_ydata()) == [5.0, 4.0, 3.5, 3.25]
    assert list(mark.get_xdata()) == [4, 4]
    (band,) = figure.axes[0].collections
    assert {round(y, 6) for _, y in band.get_paths()[0].vertices} == {4.5, 5.5, 2.9, 3.1}
    said = texts(figure)
    for part in ("the title", "T = 4", "length", "8"):
        assert part in said


def test_without_any_there_is_an_empty_picture():
    assert len(figures.positions_figure([{"length": 4}], train_length=4, title="").axes[0].lines) == 1
