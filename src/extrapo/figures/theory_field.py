"""Receptive field (Sandwich, 2212.10356): the cumulative normalised gradient, a line per length of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly
from extrapo.figures.style import MOST, line_style, log_axis, mark, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def field_figure(rows: Sequence[Mapping[str, Any]], *, encoding: str, train_length: int, corpus: str) -> Figure:
    """Share of the last token's gradient that comes from the nearest n tokens.

    Args:
        rows: one per length, with `cumulative`, (n, share) each, `erf_99` and `texts`.
        encoding, train_length, corpus: what was measured, and on what.
    """
    texts = max(int(row["texts"]) for row in rows)
    caption = f"{corpus}: gradient of the last token's loss by the embeddings, mean over up to {texts} texts"
    figure, axes = new_figure(f"{encoding}: receptive field", caption)
    for number, row in enumerate(rows[-MOST:]):
        at, share = zip(*row["cumulative"], strict=True)
        label = f"L = {row['length']:,}, 99% within {row['erf_99']:,}"
        axes.plot(at, share, label=label, zorder=3, **line_style(number))  # type: ignore[arg-type]
    axes.axhline(0.99, color="#999999", linewidth=0.8, linestyle=(0, (2, 2)))
    mark(axes, train_length, f"T = {train_length:,}")
    log_axis(axes, "nearest tokens (log scale)")
    axes.set_ylabel("share of the gradient")
    axes.set_ylim(-0.02, 1.12)
    axes.legend(framealpha=0.9, edgecolor="none", fontsize=8, loc="lower right")
    return figure
