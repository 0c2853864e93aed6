"""Loss against the position in a window, a line per length: does more context help, hurt, or change nothing?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from extrapo.figures.plain import plainly
from extrapo.figures.style import GRID, length_style, log_axis, mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row: TypeAlias = Mapping[str, Any]


@plainly()
def positions_figure(rows: Sequence[Row], *, train_length: int, title: str) -> Figure:
    """Loss in nats against position, which is logarithmic; longer lengths are darker, bands are intervals at 95%.

    Args:
        rows: one per length, with `length` and `positions`, each of these with `first`, `last`, `nll`, `low`, `high`;
            what is None or not finite is left out.
        train_length: T, where a line stands.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    drawn = sorted((row for row in rows if row.get("positions")), key=lambda row: int(row["length"]))
    for number, row in enumerate(drawn):
        style: dict[str, Any] = {**length_style(number, len(drawn))}
        bins = [one for one in row["positions"] if one["nll"] is not None and math.isfinite(one["nll"])]
        middles = [math.sqrt(one["first"] * one["last"]) for one in bins]
        axes.plot(middles, [one["nll"] for one in bins], label=f"{row['length']:,}", **style)
        sure = [(x, one) for x, one in zip(middles, bins, strict=True) if one["low"] is not None]
        low, high = ([one[end] for _, one in sure] for end in ("low", "high"))
        if sure:
            axes.fill_between([x for x, _ in sure], low, high, color=style["color"], alpha=0.15, linewidth=0)
    mark(axes, train_length, f"T = {train_length:,}")
    log_axis(axes, "position in the window: tokens seen (log scale)")
    axes.set_ylabel("loss (nats)")
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
    axes.grid(True, which="major", color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if drawn:
        figure.legend(loc="outside right center", frameon=False, title="length", alignment="left")
    return figure
