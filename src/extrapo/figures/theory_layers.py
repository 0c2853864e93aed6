"""The mean and the ends over the heads of a layer, for lines with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from extrapo.figures.style import MOST


class Lines(NamedTuple):
    """A line over x with its band."""

    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def of_layers(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> dict[str, Lines]:
    """The heads of each layer by x, from the first layer to the last; of many layers, evenly as many as are told apart.

    Rows without a value are left out.
    """
    every = sorted({int(row["layer"]) for row in rows})
    if len(every) > MOST:
        every = sorted({every[round(i * (len(every) - 1) / (MOST - 1))] for i in range(MOST)})
    found = {}
    for layer in every:
        groups: dict[float, list[float]] = {}
        for row in rows:
            if row["layer"] == layer and row.get(y) is not None:
                groups.setdefault(float(row[x]), []).append(float(row[y]))
        at = sorted(groups)
        if at:
            means = [sum(groups[one]) / len(groups[one]) for one in at]
            found[f"layer {layer}"] = Lines(at, means, [min(groups[o]) for o in at], [max(groups[o]) for o in at])
    return found
