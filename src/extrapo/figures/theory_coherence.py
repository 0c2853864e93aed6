"""Coherence against distance (2606.24975): what turns leave of the phase, by layer, with the mixing window marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly
from extrapo.figures.style import line_style, log_axis, mark, new_figure
from extrapo.figures.theory_layers import of_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A window that lies further than so many times the longest distance would leave the lines a corner of the picture.
FARTHEST = 8


@plainly()
def coherence_figure(
    rows: Sequence[Mapping[str, Any]], *, encoding: str, train_length: int, corpus: str = ""
) -> Figure:
    """Coherence of the planes, weighed by their content, and the law of independent steps beside it.

    Args:
        rows: one per distance, layer and head, with `coherence`, `error`, `of_independent_steps` and `mixing_10`.
        encoding, train_length: what was measured.
        corpus: on what; empty for drawn inputs.
    """
    longest = max(int(row.get("length", 0)) for row in rows)
    shown = [row for row in rows if row.get("length", 0) == longest]
    caption = (
        f"{corpus or 'drawn inputs'}; markers: measured, mean over heads, band: all heads; dotted: |chi|^n of one step"
    )
    figure, axes = new_figure(f"{encoding}: coherence against distance", caption)
    law = of_layers(shown, "distance", "of_independent_steps")
    for number, (name, lines) in enumerate(of_layers(shown, "distance", "coherence").items()):
        style = line_style(number)
        axes.plot(lines.at, lines.mean, label=name, zorder=3, **style)  # type: ignore[arg-type]
        axes.fill_between(lines.at, lines.low, lines.high, color=str(style["color"]), alpha=0.13, linewidth=0)
        axes.plot(law[name].at, law[name].mean, color=str(style["color"]), linestyle=":", linewidth=1)
    windows = [float(row["mixing_10"]) for row in shown if row.get("mixing_10") is not None]
    finite = sorted(window for window in windows if math.isfinite(window))
    window = finite[len(finite) // 2] if finite else math.inf
    if window <= FARTHEST * max(float(row["distance"]) for row in shown):
        mark(axes, window, f"W(0.1) = {window:,.0f}")
    else:
        far = "no mixing window" if math.isinf(window) else f"W(0.1) = {window:,.0f} tokens, beyond"
        axes.text(0.99, 0.02, far, transform=axes.transAxes, ha="right", fontsize=8)
    mark(axes, train_length, f"\nT = {train_length:,}")
    axes.axhline(0.1, color="#999999", linewidth=0.8, linestyle=(0, (2, 2)))
    log_axis(axes, "distance (tokens, log scale)")
    axes.set_ylabel("coherence")
    axes.set_ylim(-0.02, 1.12)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure
