"""What a probe finds, by the length of the text and the place where it has to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def places_figure(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Accuracy as a colour, lengths from left to right, places from the far end of the text down to the near one.

    Args:
        rows: one per length, with `length`, `accuracy`, `chance` and `places`, (place, accuracy, items) each.
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
    image = axes.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    overall = ["-" if row["accuracy"] is None else f"{row['accuracy']:.0%}" for row in rows]
    axes.set_xticks(
        range(len(rows)), [f"{row['length']:,}\n{mean}" for row, mean in zip(rows, overall, strict=True)], fontsize=9
    )
    axes.set_yticks(range(len(places)), [f"{place:.0%}" for place in places], fontsize=9)
    axes.set_xlabel("length (tokens), and the accuracy over all places")
    axes.set_ylabel("place in the text")
    for (y, x), share in np.ndenumerate(shares):
        if np.isfinite(share):
            axes.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=8)
    chances = sorted({f"{row['chance']:.0%}" for row in rows})
    figure.colorbar(image, ax=axes).set_label(f"accuracy (chance: {', '.join(chances)})", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return figure
