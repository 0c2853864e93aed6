"""Heatmaps: one colour scale for all heads, a blank future, a colour of its own for what is masked."""

import numpy as np
import pytest

from extrapo import figures
from extrapo.figures.masked import MASKED


def causal(heads, length, slope=-1.0):
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    bias = np.stack([slope * (head + 1) * distance for head in range(heads)]).astype(np.float32)
    bias[:, distance < 0] = -np.inf
    return bias


@pytest.mark.parametrize(("heads", "shape"), [(1, (1, 1)), (4, (2, 2)), (5, (2, 3)), (8, (3, 3)), (12, (3, 4))])
def test_heads_stand_in_a_square_picture_under_one_scale(heads, shape):
    figure = figures.heatmap_figure(causal(heads, 16), title="layer 00")
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == heads
    assert len({image.get_clim() for image in images}) == 1
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert figure.get_figwidth() == figure.get_figheight()


def test_letters_are_read_in_a_tile_of_225_pixels_and_none_leaves_the_picture(texts):
    figure = figures.heatmap_figure(causal(4, 16), title="accumulated-rotation+cable, layer 05, step 12,000")
    texts(figure)
    shown = [t for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text() and t.get_visible()]
    assert min(t.get_fontsize() for t in shown) * 225 / (72 * figure.get_figwidth()) > 6
    width, height = figure.canvas.get_width_height()
    (title,) = [t for t in shown if t.get_text().startswith("accumulated")]
    box = title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_another_quantity_is_named_on_the_bar(texts):
    assert "log10 of the weight" in texts(
        figures.heatmap_figure(causal(2, 16), title="", quantity="log10 of the weight")
    )


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


def colours(figure, head, cells):
    """The colours in the middle of cells (query, key) of a head's picture, as #rrggbb."""
    axes, pixels = figure.axes[head], figures.to_array(figure)
    found = []
    for query, key in cells:
        x, y = axes.transData.transform((key, query))
        found.append("#" + "".join(f"{part:02x}" for part in pixels[pixels.shape[0] - 1 - int(y), int(x)]))
    return found


@pytest.mark.parametrize("slope", [-1.0, 0.0])
def test_what_a_window_masks_has_a_colour_of_its_own_and_is_named(slope, texts):
    bias = causal(2, 16, slope=slope)
    distance = np.arange(16)[:, None] - np.arange(16)
    plain = texts(figures.heatmap_figure(bias, title=""))
    assert "masked" not in plain
    bias[:, distance >= 4] = -np.inf
    figure = figures.heatmap_figure(bias, title="")
    assert "masked" in texts(figure)
    for head in range(2):
        masked, first, seen, future = colours(figure, head, [(8, 4), (15, 0), (8, 5), (4, 8)])
        assert masked == first == MASKED
        assert future == "#ffffff"
        assert seen not in (masked, future)


def test_the_scale_is_robust_to_a_few_far_values_and_says_so(texts):
    bias = causal(1, 64, slope=-0.1)
    bias[0, 63, 0] = -1e6
    figure = figures.heatmap_figure(bias, title="")
    low, high = figure.axes[0].images[0].get_clim()
    assert -10 < low < high == 0
    assert "2 % lie below" in texts(figure)
    assert "-1e+06" in texts(figure)


def test_no_bias_at_all_is_drawn_and_named(texts):
    assert "0 everywhere" in texts(figures.heatmap_figure(causal(2, 8, slope=0.0), title="nope"))
