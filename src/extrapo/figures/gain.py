"""Context gain: what more context than the shortest length has is worth, in nats, by length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly
from extrapo.figures.style import apart, axis_inches, encoding_style, log_axis, mark, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Points of the legend's letters.
SIZE = 8


@plainly()
def gain_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], *, train_length: int, title: str) -> Figure:
    """The loss at the shortest length less the loss at each, a line per name: above 0 more context helps.

    Args:
        curves: by name, rows with `length`, `nll` and, of several seeds, `spread`.
        train_length: T, which is marked.
        title: of the picture.
    """
    caption = "same targets at every length; bands: standard deviation over seeds of the loss at that length"
    figure, axes = new_figure(title or "context gain", caption)
    for name, rows in curves.items():
        known = sorted(
            (row for row in rows if row.get("nll") is not None and math.isfinite(row["nll"])),
            key=lambda row: int(row["length"]),
        )
        if len(known) < 2:
            continue
        lengths = [int(row["length"]) for row in known]
        gains = [float(known[0]["nll"]) - float(row["nll"]) for row in known]
        style = encoding_style(name, list(curves))
        axes.plot(lengths, gains, label=name, zorder=3, **style)  # type: ignore[arg-type]
        spreads = [float(row.get("spread") or 0.0) for row in known]
        if any(spreads):
            low, high = ([g + sign * s for g, s in zip(gains, spreads, strict=True)] for sign in (-1, 1))
            axes.fill_between(lengths, low, high, color=str(style["color"]), alpha=0.15, linewidth=0)
    axes.axhline(0.0, color="#999999", linewidth=0.8)
    mark(axes, train_length, f"T = {train_length:,}")
    ticks = sorted({int(row["length"]) for rows in curves.values() for row in rows})
    # Matplotlib leaves a twentieth of the axis free at both ends.
    shown = apart([ticks[0], ticks[-1], *ticks], axis_inches(figure, curves, SIZE) / 1.1) if ticks else []
    log_axis(axes, "evaluation length (tokens, log scale)", shown)
    axes.set_ylabel("gain over the shortest length (nats)")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right center", frameon=False, fontsize=SIZE)
    return figure
