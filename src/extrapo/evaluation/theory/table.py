"""The verdicts on the whole catalogue, a row per encoding, and the page of docs that shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from extrapo import encodings
from extrapo.evaluation.theory.built import layers_of
from extrapo.evaluation.theory.verdicts import CLAIMS, verdicts

#: The shape at which the catalogue is compared.
HEADS, HEAD_DIM, TRAIN_LENGTH = 4, 32, 512


def verdict_table(
    names: Sequence[str] | None = None, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """What holds of each encoding at its starting values: `encoding`, a column per claim, `reasons` by claim.

    Args:
        names: None for the whole catalogue.
        progress: called after each, with how many there were and how many there are.
    """
    names = encodings.names() if names is None else names
    rows = []
    for done, name in enumerate(names):
        (layer,) = layers_of(name, heads=HEADS, head_dim=HEAD_DIM, train_length=TRAIN_LENGTH)
        said = verdicts(layer)
        row: dict[str, Any] = {"encoding": name, **{claim: said[claim].holds for claim in CLAIMS}}
        rows.append(row | {"reasons": {claim: said[claim].why for claim in CLAIMS}})
        if progress is not None:
            progress(done + 1, len(names))
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as it stands in docs/theory.md: why, of the claims on the sum, the logit and the content."""
    head = ["encoding", *(claim.replace("_", " ") for claim in CLAIMS), "why"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        why = "; ".join(row["reasons"][claim] for claim in ("normalisation", "ldcp_logit", "ldcp_content"))
        lines.append([f"`{row['encoding']}`", *(row[claim] for claim in CLAIMS), why])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
