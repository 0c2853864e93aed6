"""Attention against distance: the share of the mass that lies in each power of two of distances, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly
from extrapo.figures.style import line_style, log_axis, mark, new_figure
from extrapo.figures.theory_layers import of_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def attention_figure(rows: Sequence[Mapping[str, Any]], *, encoding: str, train_length: int, corpus: str) -> Figure:
    """Mass by distance at the longest length.

    Args:
        rows: one per length, layer, head and bin, with `distance`, `to`, `mass` and `texts`.
        encoding, train_length, corpus: what was measured, and on what.
    """
    longest = max(int(row["length"]) for row in rows)
    shown = [row for row in rows if row["length"] == longest]
    texts = max(int(row["texts"]) for row in shown)
    caption = (
        f"{corpus}: {longest:,} tokens, {texts} texts; bins 0, 1, 2-3, 4-7 ... at their first distance + 1; "
        "line: mean over heads, band: all heads"
    )
    figure, axes = new_figure(f"{encoding}: attention against distance", caption)
    # Distance 0 has a place on a logarithmic axis as well.
    placed = [{**row, "place": row["distance"] + 1} for row in shown]
    for number, (name, lines) in enumerate(of_layers(placed, "place", "mass").items()):
        style = line_style(number)
        axes.plot(lines.at, lines.mean, label=name, zorder=3, **style)  # type: ignore[arg-type]
        axes.fill_between(lines.at, lines.low, lines.high, color=str(style["color"]), alpha=0.13, linewidth=0)
    mark(axes, train_length, f"T = {train_length:,}")
    log_axis(axes, "distance + 1 (tokens, log scale)")
    axes.set_ylabel("share of attention per bin")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure
