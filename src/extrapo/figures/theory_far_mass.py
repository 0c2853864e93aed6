"""Far mass against length (2606.24975): a line per layer, a band over its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly
from extrapo.figures.style import line_style, log_axis, mark, new_figure
from extrapo.figures.theory_layers import of_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def far_mass_figure(rows: Sequence[Mapping[str, Any]], *, encoding: str, train_length: int, corpus: str) -> Figure:
    """Share of the attention that lies beyond the training length.

    Args:
        rows: one per length, layer and head, with `far_mass`, `near`, `texts` and `queries`.
        encoding, train_length, corpus: what was measured, and on what.
    """
    layers = of_layers(rows, "length", "far_mass")
    near = rows[0].get("near", train_length)
    texts, queries = max(int(row["texts"]) for row in rows), max(int(row["queries"]) for row in rows)
    caption = f"{corpus}: {queries} queries of up to {texts} texts per length; line: mean over heads, band: all heads"
    figure, axes = new_figure(f"{encoding}: attention beyond {near:,} tokens", caption)
    for number, (name, lines) in enumerate(layers.items()):
        style = line_style(number)
        axes.plot(lines.at, lines.mean, label=name, zorder=3, **style)  # type: ignore[arg-type]
        axes.fill_between(lines.at, lines.low, lines.high, color=str(style["color"]), alpha=0.13, linewidth=0)
    mark(axes, train_length, f"T = {train_length:,}")
    log_axis(axes, "length (tokens, log scale)")
    axes.set_ylabel("far mass (share of attention)")
    axes.set_ylim(-0.02, 1.1)
    axes.legend(frameon=False, fontsize=8)
    return figure
