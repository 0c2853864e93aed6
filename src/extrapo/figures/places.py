"""What a probe finds, by the length of the text and the place where it has to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from extrapo.evaluation.probes.result import variant_of
from extrapo.figures.plain import plainly

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def places_figure(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Accuracy as a colour, lengths from left to right, places from the far end of the text down to the near one.

    Args:
        rows: one per length and variant of the task, as `evaluation.probes.Result.row` gives them.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    places = sorted({place for row in rows for place, _, _ in row["places"]})
    shares = np.full((max(1, len(places)), len(rows)), np.nan)
    for column, row in enumerate(rows):
        for place, accuracy, _ in row["places"]:
            shares[places.index(place), column] = accuracy
    figure = Figure(figsize=(2.2 + 1.0 * len(rows), 2.0 + 0.32 * len(shares)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(rows)), [column_label(row) for row in rows], fontsize=9)
    axes.set_yticks(range(len(places)), [f"{place:.0%}" for place in places], fontsize=9)
    axes.set_xlabel("length (tokens), and the accuracy over all places")
    axes.set_ylabel("place in the text")
    for (y, x), share in np.ndenumerate(shares):
        if np.isfinite(share):
            ink = "white" if share < 0.5 else "black"
            axes.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=8, color=ink)
    chances = sorted({f"{row['chance']:.0%}" for row in rows})
    figure.colorbar(image, ax=axes).set_label(f"accuracy (chance: {', '.join(chances)})", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return figure


def column_label(row: Mapping[str, Any]) -> str:
    """Length, variant and accuracy, a line each."""
    variant = [value if isinstance(value, str) else f"{value} {name}" for name, value in variant_of(row).items()]
    accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.0%}"
    return "\n".join([f"{row['length']:,}", *variant, accuracy])
