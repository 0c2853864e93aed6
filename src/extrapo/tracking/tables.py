"""Rows as a table: of MLflow, as JSON that other programs read, as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from mlflow import MlflowClient

Rows: TypeAlias = Sequence[Mapping[str, Any]]


def log(client: MlflowClient, run_id: str, rows: Rows, place: str) -> None:
    """Record rows as a table that MLflow shows; in place of an earlier one, to which `log_table` appends."""
    whole = table(rows)
    folder = place.rpartition("/")[0]
    if rows and all(artifact.path != place for artifact in client.list_artifacts(run_id, folder)):
        # It also tells MLflow's pages that there is a table.
        cells = zip(*whole["data"], strict=True)
        client.log_table(run_id, dict(zip(whole["columns"], map(list, cells), strict=True)), place)
    # With all digits: `log_table` keeps ten.
    client.log_text(run_id, json.dumps(whole), place)


def table(rows: Rows) -> dict[str, Any]:
    """Rows as MLflow keeps a table; a value that a row lacks is None."""
    names = columns(rows)
    return {"columns": names, "data": [[finite(row.get(name)) for name in names] for row in rows]}


def columns(rows: Rows) -> list[str]:
    """The keys of all rows, in the order in which they come up."""
    return list(dict.fromkeys(key for row in rows for key in row))


def finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(rows: Rows) -> str:
    """Rows as CSV with a header; a value that a row lacks is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
