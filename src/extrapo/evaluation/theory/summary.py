"""One row per length of the rows of many layers and heads, and one mixing window of many planes and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def at_train_length(documents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The coherence of turns at the distance T, of each layer and head of runs, on the longest text that was measured.

    Args:
        documents: what `extrapo theory` recorded of runs that differ in their seed alone.
    """
    found: list[Mapping[str, Any]] = []
    for document in documents:
        longest = max((row["length"] for row in document["coherence"]), default=0)
        of_longest = [row for row in document["coherence"] if row["length"] == longest]
        found += [row for row in of_longest if row["distance"] == document["train_length"]]
    return found


def mixing_window(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """W(0.1) (2606.24975) of the median head: the distance at which turns alone leave a tenth of the phase; None where
    most of them never mix.

    Args:
        rows: of `at_train_length`, at least one.
    """
    finite = sorted(row["mixing_10"] for row in rows if row["mixing_10"] is not None)
    return float(finite[len(finite) // 2]) if 2 * len(finite) > len(rows) else None
