"""The loss by position in a window, beside the curve that it belongs to: JSON, CSV, picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo import figures
from extrapo.files import write_text
from extrapo.tracking import tables

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: What a row of a curve has them under.
KEY = "positions"
ARTIFACT = "curves/positions.json"
SHEET = "positions.csv"


def record(
    client: MlflowClient,
    run_id: str,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    train_length: int,
    title: str,
) -> None:
    """Record what the rows of a curve have by position; nothing where none has any. The latest one stays."""
    flat = [{"length": row["length"], **one} for row in rows for one in row.get(KEY, ())]
    if not flat:
        return
    client.log_text(run_id, json.dumps(tables.finite(flat)), ARTIFACT)
    picture = figures.positions_figure(rows, train_length=train_length, title=title)
    for path in (
        figures.save(picture, folder / "positions.png", dpi=None),
        write_text(folder / SHEET, tables.csv_text(flat)),
    ):
        client.log_artifact(run_id, str(path), "curves")
