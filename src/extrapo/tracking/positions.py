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
SHEET, PICTURE = "positions.csv", "positions.png"


def draw(rows: Sequence[Mapping[str, Any]], folder: Path, *, train_length: int, title: str) -> None:
    """Leave picture and sheet in a run's folder; nothing where no row has positions."""
    flat = _flat(rows)
    if flat:
        picture = figures.positions_figure(rows, train_length=train_length, title=title)
        figures.save(picture, folder / PICTURE, dpi=None)
        write_text(folder / SHEET, tables.csv_text(flat))


def send(client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Record what the rows of a curve have by position, with what was drawn of it. The latest one stays."""
    flat = _flat(rows)
    if not flat:
        return
    client.log_text(run_id, json.dumps(tables.finite(flat)), ARTIFACT)
    for name in (PICTURE, SHEET):
        client.log_artifact(run_id, str(folder / name), "curves")


def _flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"length": row["length"], **one} for row in rows for one in row.get(KEY, ())]
