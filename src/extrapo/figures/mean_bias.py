"""Cable's figure 7 (2503.08067): the bias in the mean over heads, over its largest size, beside ALiBi's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.figures.plain import plainly
from extrapo.figures.style import explain, line_style, mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def mean_bias_figure(
    bias: NDArray[np.floating[Any]], alibi: NDArray[np.floating[Any]], *, name: str, caption: str, train_length: int = 0
) -> Figure:
    """Two matrices on one scale, each over its largest size; and their lines by distance below.

    Args:
        bias: (H, T, T), -inf where a key is not seen.
        alibi: the same of ALiBi.
        name: of the first.
        caption: what they rest on.
        train_length: T, marked where it lies within.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 6.4), dpi=300, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1))
    line = figure.add_subplot(grid[1, :])
    values = {name: normalised(bias), "ALiBi": normalised(alibi)}
    signed = max(float(np.nanmax(one)) for one in values.values()) > 1e-3
    maps = []
    for column, (title, one) in enumerate(values.items()):
        axes = figure.add_subplot(grid[0, column])
        cmap, high = ("RdBu_r", 1.0) if signed else ("viridis", 0.0)
        image = axes.imshow(one, cmap=cmap, vmin=-1.0, vmax=high, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("key")
        axes.set_ylabel("query")
        maps.append(axes)
        means = [np.nanmean(diagonal) if not np.isnan(diagonal).all() else np.nan for diagonal in diagonals(one)]
        style = {**line_style(column), "marker": ""}
        line.plot(range(len(means)), means, label=title, **style)  # type: ignore[arg-type]
    figure.colorbar(image, ax=maps, shrink=0.9, pad=0.01).set_label("bias over its largest size (no unit)", fontsize=9)
    if 0 < train_length < bias.shape[-1]:
        mark(line, train_length, f"T = {train_length:,}")
    line.set_xlabel("distance (tokens)")
    line.set_ylabel("mean over pairs")
    line.grid(True, color="#e3e3e3", linewidth=0.8)
    line.spines[["top", "right"]].set_visible(False)
    line.legend(frameon=False, fontsize=8)
    explain(figure, caption)
    return figure


def normalised(bias: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(T, T) the mean over heads, over its largest size; NaN where some head does not see the key."""
    seen = np.isfinite(bias).all(0)
    mean = np.where(seen, np.where(np.isfinite(bias), bias, 0.0).mean(0, dtype=np.float64), np.nan)
    largest = float(np.nanmax(np.abs(mean)))
    return mean / largest if largest > 0 else mean


def diagonals(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The values at each distance, from 0."""
    return [values.diagonal(-n) for n in range(values.shape[-1])]
