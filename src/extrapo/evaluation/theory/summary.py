"""One row per length of the rows of many layers and heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from extrapo.evaluation.theory.receptive_field import network_bound

#: What names a row, and no quantity.
NAMES = ("length", "layer", "head", "source", "inputs", "texts", "kind")


def mean_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per length and source: the mean over layers and heads of every number that all of them have, else None."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["length"], row["source"]), []).append(row)
    means = []
    for (length, source), group in sorted(groups.items()):
        mean: dict[str, Any] = {"length": length, "source": source}
        mean |= {name: group[0][name] for name in ("inputs", "texts") if name in group[0]}
        for name in (name for name in group[0] if name not in NAMES):
            values = [row.get(name) for row in group]
            known = [float(value) for value in values if value is not None]
            mean[name] = math.fsum(known) / len(known) if len(known) == len(values) else None
        layers = {row["layer"] for row in group}
        windows = [[row["window_10"] for row in group if row["layer"] == layer] for layer in layers]
        mean["network_window"] = network_bound(windows)
        mean["heads"] = len(group)
        means.append(mean)
    return means
