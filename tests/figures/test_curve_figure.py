"""A curve's picture holds its points, its gaps and the protocol they were measured under."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import figures


def row(length, ppl, **more):
    nll = None if ppl is None else math.log(ppl)
    return {"length": length, "nll": nll, "ppl": ppl, "tokens": 4096, "protocol": "disjoint", **more}


def test_a_curve_has_its_points_its_colour_and_the_training_length(texts):
    rows = [row(128, 9.0), row(64, 10.0), row(256, 30.0)]
    figure = figures.curve_figure({"k-cable": rows}, train_length=128, title="the title")
    (line, mark) = figure.axes[0].lines
    assert list(line.get_xdata()) == [64, 128, 256]
    assert list(line.get_ydata()) == [10.0, 9.0, 30.0]
    assert line.get_color() == figures.colour("k-cable")
    assert list(mark.get_xdata()) == [128, 128]
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")
    said = texts(figure)
    for part in ("the title", "T = 128", "k-cable", "disjoint", "4,096 tokens", "30"):
        assert part in said


def test_many_lengths_leave_the_labels_of_the_axis_room():
    lengths = [64 * i for i in range(1, 51)]
    figure = figures.curve_figure({"rope": [row(length, 9.0) for length in lengths]}, train_length=512, title="")
    ticks = figure.axes[0].xaxis.get_majorticklocs().tolist()
    assert {64, 512, 3200} < set(ticks) < set(lengths)
    assert ticks == sorted(ticks)
    assert 8 < len(ticks) < 20
    doubled = [64 << i for i in range(9)]
    figure = figures.curve_figure({"rope": [row(length, 9.0) for length in doubled]}, train_length=512, title="")
    assert figure.axes[0].xaxis.get_majorticklocs().tolist() == doubled


def test_a_band_shows_how_sure_the_curve_is(texts):
    rows = [
        row(128, 9.0, low=math.log(8.0), high=math.log(10.0)),
        row(64, 10.0, low=math.log(9.0), high=math.log(11.5)),
    ]
    figure = figures.curve_figure({"k-cable": rows, "nope": [row(64, 12.0)]}, train_length=64, title="")
    (band,) = figure.axes[0].collections
    corners = {(round(x), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(64, 9.0), (64, 11.5), (128, 8.0), (128, 10.0)}
    assert "bands: 95%, other texts of the kind" in texts(figure)


def test_a_band_over_seeds_says_so(texts):
    rows = [row(64, 10.0, low=math.log(9.0), high=math.log(11.5), seeds=3)]
    figure = figures.curve_figure({"k-cable": rows}, train_length=64, title="")
    assert "bands: mean ± standard deviation over 3 seeds" in texts(figure)
    assert "other texts" not in texts(figure)


def test_the_caption_says_what_the_points_say_of_their_protocols(texts):
    disjoint = row(64, 2.0, stride=64, description="disjoint windows, stride = length")
    sliding = row(64, 2.0, stride=16, protocol="sliding", description="windows that move by a quarter")
    figure = figures.curve_figure({"a": [disjoint], "b": [sliding]}, train_length=64, title="")
    assert "protocol: disjoint windows, stride = length, windows that move by a quarter · 4,096" in texts(figure)


def test_a_curve_recorded_without_a_description_has_name_and_stride(texts):
    whole = figures.curve_figure({"a": [row(64, 2.0, stride=64)]}, train_length=64, title="")
    assert "protocol: disjoint · stride = length" in texts(whole)
    sliding = figures.curve_figure({"a": [row(64, 2.0, stride=32)]}, train_length=64, title="")
    assert "stride 32" in texts(sliding)
    new = row(64, 2.0, stride=64, description="disjoint windows, stride = length")
    both = figures.curve_figure({"old": [row(64, 2.0, stride=64)], "new": [new]}, train_length=64, title="")
    assert "protocol: disjoint windows, stride = length · 4,096" in texts(both)


def test_what_is_missing_is_left_out_and_said(texts):
    curves = {"learned": [row(64, 9.0), row(128, None)], "nope": [row(64, 9.5), row(128, math.inf)]}
    figure = figures.curve_figure(curves, train_length=64, title="")
    assert [len(line.get_xdata()) for line in figure.axes[0].lines[:2]] == [1, 1]
    assert "not applicable: learned at 128" in texts(figure)
    assert "not finite: nope at 128" in texts(figure)


def test_a_curve_without_any_point_is_still_a_picture():
    figure = figures.curve_figure({"learned": [row(128, None)]}, train_length=64, title="")
    assert figures.to_array(figure).std() > 0


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(1, 1e30), min_size=1, max_size=8))
def test_any_perplexities_can_be_drawn(values):
    rows = [row(2**i, value) for i, value in enumerate(values)]
    figure = figures.curve_figure({"rope": rows, "alibi": rows, "path": rows}, train_length=4, title="")
    assert figures.to_array(figure).shape[2] == 3
