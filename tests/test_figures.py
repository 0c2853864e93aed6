"""Pictures hold what they should: points, gaps, one colour scale, a blank future."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import figures


def row(length, ppl, **more):
    nll = None if ppl is None else math.log(ppl)
    return {"length": length, "nll": nll, "ppl": ppl, "tokens": 4096, "protocol": "disjoint", **more}


def texts(figure):
    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def causal(heads, length, slope=-1.0):
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    bias = np.stack([slope * (head + 1) * distance for head in range(heads)]).astype(np.float32)
    bias[:, distance < 0] = -np.inf
    return bias


def test_a_curve_has_its_points_its_colour_and_the_training_length():
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


def test_the_stride_is_said():
    whole = figures.curve_figure({"a": [row(64, 2.0, stride=64)]}, train_length=64, title="")
    assert "stride = length" in texts(whole)
    sliding = figures.curve_figure({"a": [row(64, 2.0, stride=32)]}, train_length=64, title="")
    assert "stride 32" in texts(sliding)


def test_what_is_missing_is_left_out_and_said():
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


@pytest.mark.parametrize(("heads", "shape"), [(1, (1, 1)), (4, (2, 2)), (5, (2, 3)), (8, (2, 4)), (12, (3, 4))])
def test_heads_stand_in_a_landscape_grid_under_one_scale(heads, shape):
    figure = figures.heatmap_figure(causal(heads, 16), title="layer 00")
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == heads
    assert len({image.get_clim() for image in images}) == 1
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert figure.get_figwidth() >= figure.get_figheight()


def test_the_future_is_blank_and_the_past_is_what_was_given():
    bias = causal(2, 8)
    figure = figures.heatmap_figure(bias, title="")
    drawn = np.ma.filled(figure.axes[1].images[0].get_array(), np.nan)
    assert np.isnan(drawn[np.triu_indices(8, 1)]).all()
    np.testing.assert_array_equal(drawn[np.tril_indices(8)], bias[1][np.tril_indices(8)])
    pixels = figures.to_array(figure)
    top_right = figure.axes[0].get_window_extent()
    x, y = int(top_right.x1) - 8, pixels.shape[0] - int(top_right.y1) + 8
    assert (pixels[y - 3 : y + 3, x - 3 : x + 3] == 255).all()


def test_the_scale_is_robust_to_a_few_far_values_and_says_so():
    bias = causal(1, 64, slope=-0.1)
    bias[0, 63, 0] = -1e6
    figure = figures.heatmap_figure(bias, title="")
    low, high = figure.axes[0].images[0].get_clim()
    assert -10 < low < high == 0
    assert "2 % lie below" in texts(figure)
    assert "-1e+06" in texts(figure)


def test_no_bias_at_all_is_drawn_and_named():
    assert "0 everywhere" in texts(figures.heatmap_figure(causal(2, 8, slope=0.0), title="nope"))


def test_saving_replaces_only_whole_files(tmp_path):
    figure = figures.heatmap_figure(causal(1, 8), title="")
    path = figures.save(figure, tmp_path / "new folder" / "picture.png")
    good = path.read_bytes()
    assert good.startswith(b"\x89PNG")

    def broken(file, format):
        file.write(b"half")
        raise OSError("disk full")

    figure.savefig = broken
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, path)
    assert path.read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]
