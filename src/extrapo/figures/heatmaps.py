"""The bias matrices of one layer, head by head under one colour scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.figures.masked import draw_masked, explain_masked, masked_keys
from extrapo.figures.shades import bias_shade

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heatmap_figure(bias: NDArray[np.floating[Any]], *, title: str) -> Figure:
    """One layer's bias (H, T, T), heads in a grid under one colour scale.

    The future stays blank; -inf below the diagonal, as behind a window, has a colour that is not on the scale. This
    runs from the 2nd percentile of the visible values to their largest, so that a few far keys do not flatten
    everything else; the colour bar says what lies below it.
    """
    from matplotlib.figure import Figure

    heads, length = bias.shape[0], bias.shape[-1]
    rows, columns = _grid(heads)
    masked = masked_keys(bias)
    visible = np.where(np.isfinite(bias), bias, np.nan).astype(np.float32)
    scale = bias_shade(visible)
    shade = scale.mappable()
    # Margins in inches rather than a layout engine, which costs more than all the drawing.
    width, height, left, right, bottom, top = 2.0 * columns + 2.0, 2.1 * rows + 1.1, 0.7, 1.45, 0.65, 0.75
    figure = Figure(figsize=(width, height), dpi=100)
    box = {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": bottom / height,
        "top": 1 - top / height,
    }
    layout = figure.add_gridspec(rows, columns, wspace=0.08, hspace=0.16, **box)
    grid = layout.subplots(sharex=True, sharey=True, squeeze=False)
    for head, axes in enumerate(grid.flat):
        if head >= heads:
            axes.set_axis_off()
            continue
        axes.imshow(visible[head], cmap=shade.cmap, norm=shade.norm, interpolation="nearest")
        draw_masked(axes, masked[head])
        axes.set_title(f"head {head}", fontsize=10, pad=3)
        axes.set_xticks([0, length - 1])
        axes.set_yticks([0, length - 1])
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=13, fontweight="bold", y=1 - 0.18 / height, va="top")
    figure.text((box["left"] + box["right"]) / 2, 0.16 / height, "key", ha="center", fontsize=11)
    figure.text(0.16 / width, (box["bottom"] + box["top"]) / 2, "query", va="center", rotation=90, fontsize=11)
    bar = figure.add_axes((1 - (right - 0.2) / width, box["bottom"], 0.17 / width, box["top"] - box["bottom"]))
    figure.colorbar(shade, cax=bar, extend=scale.extend).set_label(scale.label, fontsize=9)
    if masked.any():
        explain_masked(figure, loc="lower right", bbox_to_anchor=(1.0, 0.0))
    return figure


def _grid(heads: int) -> tuple[int, int]:
    """Rows and columns for so many heads: landscape, near 1.6 to 1, few empty cells."""

    def cost(rows: int) -> float:
        columns = math.ceil(heads / rows)
        return 3 * (rows * columns - heads) / heads + abs(math.log(columns / rows / 1.6))

    rows = min(range(1, heads + 1), key=cost)
    return rows, math.ceil(heads / rows)
