"""What a task comes to that has no places: its accuracy by length and score, how sure it is, and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.places import column_label
from extrapo.figures.plain import plainly
from extrapo.figures.style import NUMBERED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def scores_figure(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Accuracy as points with their intervals, one for each row, above the chance of each.

    Args:
        rows: as `evaluation.probes.Result.row` gives them.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 + 1.0 * len(rows), 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for column, row in enumerate(rows):
        axes.hlines(row["chance"], column - 0.3, column + 0.3, color="#888888", linestyle="--", linewidth=1)
        if row["accuracy"] is not None:
            below, above = row["accuracy"] - row["low"], row["high"] - row["accuracy"]
            axes.errorbar(column, row["accuracy"], [[below], [above]], fmt="o", color=NUMBERED[0], capsize=4)
    axes.set_xticks(range(len(rows)), [column_label(row) for row in rows], fontsize=9)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("length (tokens)")
    axes.set_ylabel("accuracy, its interval at 95%\n(dashed: chance)")
    axes.grid(axis="y", alpha=0.3)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return figure
