"""The bias matrices of one layer, head by head under one colour scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.figures.masked import draw_masked, explain_masked, masked_keys
from extrapo.figures.plain import plainly
from extrapo.figures.shades import bias_shade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Side of the picture in inches, and its pixels to an inch: letters are read in a tile of 225 pixels as well.
SIDE, DPI = 4.8, 150
#: Largest and least size of letters, in points.
LARGE, SMALL = 15, 12


@plainly()
def heatmap_figure(bias: NDArray[np.floating[Any]], *, title: str, quantity: str = "bias (nats)") -> Figure:
    """One layer's bias (H, T, T), or another `quantity` of pairs, heads in a grid under one colour scale; square.

    The future stays blank; -inf below the diagonal, as behind a window, has a colour that is not on the scale. This
    runs from the 2nd percentile of the visible values to their largest, so that a few far keys do not flatten
    everything else; the colour bar says what lies below it.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    heads, length = bias.shape[0], bias.shape[-1]
    rows, columns = _grid(heads)
    masked = masked_keys(bias)
    visible = np.where(np.isfinite(bias), bias, np.nan).astype(np.float32)
    scale = bias_shade(visible, quantity)
    shade = scale.mappable()
    # Margins in shares of the side rather than a layout engine, which costs more than all the drawing.
    figure = Figure(figsize=(SIDE, SIDE), dpi=DPI)
    box = {"left": 0.13, "right": 0.985, "bottom": 0.225, "top": 0.905}
    layout = figure.add_gridspec(rows, columns, wspace=0.06, hspace=0.2, **box)
    grid = layout.subplots(sharex=True, sharey=True, squeeze=False)
    for head, axes in enumerate(grid.flat):
        if head >= heads:
            axes.set_axis_off()
            continue
        axes.imshow(visible[head], cmap=shade.cmap, norm=shade.norm, interpolation="nearest")
        draw_masked(axes, masked[head])
        # In the blank of the future, where it takes no room of the picture's.
        axes.text(0.97, 0.95, f"head {head}" if heads <= 9 else f"{head}", size=SMALL, **_corner(axes))
        axes.set_xticks([0, length - 1])
        axes.set_yticks([0, length - 1])
        axes.tick_params(labelsize=SMALL - 2, length=2)
        # Of all columns the first one says it: beside one another the numbers would touch.
        axes.tick_params(labelbottom=head >= heads - columns and head % columns == 0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=_fitting(title), fontweight="bold", y=0.985, va="top")
    middle = (box["left"] + box["right"]) / 2
    figure.text(middle, 0.15, "key", ha="center", fontsize=SMALL)
    figure.text(0.015, (box["bottom"] + box["top"]) / 2, "query", va="center", rotation=90, fontsize=SMALL)
    bar = figure.add_axes((box["left"] + 0.03, 0.11, box["right"] - box["left"] - 0.06, 0.03))
    colours = figure.colorbar(shade, cax=bar, extend=scale.extend, orientation="horizontal")
    colours.locator = MaxNLocator(4)
    colours.update_ticks()
    bar.tick_params(labelsize=SMALL)
    bar.set_xlabel(scale.label.replace("\n", "; "), fontsize=SMALL - 1, labelpad=1)
    if masked.any():
        explain_masked(figure, loc="upper left", bbox_to_anchor=(0.0, 0.1))
    return figure


def _corner(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.transAxes, "ha": "right", "va": "top"}


def _fitting(title: str) -> float:
    """The size of a title's letters with which it fits the width: bold ones are 0.62 of it wide."""
    return min(LARGE, 72 * 0.97 * SIDE / (0.62 * max(1, len(title))))


def _grid(heads: int) -> tuple[int, int]:
    """Rows and columns for so many heads: as large as they can be in a square, few empty cells."""
    columns = math.ceil(math.sqrt(heads))
    return math.ceil(heads / columns), columns
