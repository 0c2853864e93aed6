"""What a task finds by how far back it stands: accuracy and loss against distance, a line per length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly
from extrapo.figures.style import GRID, length_style, mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def distances_figure(rows: Sequence[Mapping[str, Any]], *, train_length: int, title: str) -> Figure:
    """Accuracy above and loss below, against distances that are logarithmic; longer lengths are darker, bands are
    intervals at 95%, and a dashed line is the chance of the length in its colour.

    Args:
        rows: one per length and range of distances, as `evaluation.probes.Result.row` gives them, with `distance` such
            as `65-128`; those without an accuracy are left out.
        train_length: T, where a line stands.
        title: of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(9.6, 7.2), dpi=110, layout="constrained")
    shares, losses = figure.subplots(2, sharex=True)
    found = [row for row in rows if row["accuracy"] is not None]
    lengths = sorted({int(row["length"]) for row in found})
    for number, length in enumerate(lengths):
        style: dict[str, Any] = {**length_style(number, len(lengths))}
        shade = style["color"]
        of_length = [row for row in found if row["length"] == length]
        middles = [_middle(row["distance"]) for row in of_length]
        accuracy, low, high, chance, nll = ([row[key] for row in of_length] for key in KEYS)
        shares.plot(middles, accuracy, label=f"{length:,}", **style)
        shares.fill_between(middles, low, high, color=shade, alpha=0.15, linewidth=0)
        shares.plot(middles, chance, color=shade, linestyle=(0, (2, 2)), linewidth=1)
        losses.plot(middles, nll, **style)
    for axes in (shares, losses):
        mark(axes, train_length, f"T = {train_length:,}")
        axes.grid(True, which="major", color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    shares.set_ylim(0, 1.02)
    shares.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    shares.set_ylabel("accuracy (dashed: chance)")
    shares.set_title(title, loc="left", fontsize=13, fontweight="bold")
    losses.set_ylabel("loss of the answer (nats per token)")
    losses.set_xscale("log", base=2)
    losses.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    losses.set_xlabel("distance to where the answer was said: tokens (log scale)")
    if lengths:
        figure.legend(loc="outside right center", frameon=False, title="length", alignment="left")
    return figure


#: What is drawn of a row.
KEYS = ("accuracy", "low", "high", "chance", "nll")


def _middle(distance: str) -> float:
    nearest, farthest = map(int, distance.split("-"))
    return math.sqrt(nearest * farthest)
