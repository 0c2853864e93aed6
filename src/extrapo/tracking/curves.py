"""The extrapolation curve in MLflow: scalars over length and over training step, table, CSV, picture."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo import figures
from extrapo.files import write_text
from extrapo.tracking import positions, tables

if TYPE_CHECKING:
    from mlflow import MlflowClient

TABLE = "curves/extrapolation.json"
BLOCKS = "curves/blocks.json"
#: The same as the table in the run's own folder.
SHEET, PICTURE = "extrapolation.csv", "extrapolation.png"
#: Its columns that stay text, even where they look like numbers.
TEXTS = (
    *("protocol", "description", "targets", "scope", "start_token", "dtype", "note"),
    *("corpus_sha256", "tokenizer_sha256", "precision"),
)
MEASURED_AT = "extrapo.curve_step"
#: Perplexity in charts ends here; tables keep the true value.
CEILING = 1e6
#: Perplexity over that at T, whose flat is 1, and log2 of the length over T: MLflow's own logarithmic axis has no ticks
#: at powers of two. The page writes the name under the axis.
OVER_T = "extrapolation/ppl over ppl at T"
DOUBLINGS = "doublings of T: 0 is T and 4 is 16T"
#: Figures of `ppl/NNNNNN`, which MLflow's table shows as it is.
FIGURES = 5


def draw(rows: Sequence[Mapping[str, Any]], folder: Path, *, train_length: int, encoding: str, step: int) -> Path:
    """Leave pictures and sheets of the latest curve in a run's folder; returns the curve's picture."""
    rows = by_length(rows)
    title = f"{encoding}: loss by position in the window, step {step:,}"
    positions.draw(rows, folder, train_length=train_length, title=title)
    rows = without_positions(rows)
    title = f"{encoding}: perplexity against length, step {step:,}"
    figure = figures.curve_figure({encoding: rows}, train_length=train_length, title=title)
    write_text(folder / SHEET, tables.csv_text(rows))
    return figures.save(figure, folder / PICTURE, dpi=None)


def send(
    client: MlflowClient,
    run_id: str,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    train_length: int,
    step: int,
) -> None:
    """Record the curve with what was drawn of it; table, CSV and picture show the latest curve."""
    rows = by_length(rows)
    positions.send(client, run_id, rows, folder)
    rows = without_positions(rows)
    _scalars(client, run_id, rows, step, train_length)
    client.set_tag(run_id, "extrapo.train_length", train_length)
    tables.log(client, run_id, rows, TABLE)
    for name in (PICTURE, SHEET):
        client.log_artifact(run_id, str(folder / name), "curves")


def by_length(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a curve in their order."""
    return sorted(rows, key=lambda row: int(row["length"]))


def without_positions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a curve without what has a table of its own."""
    return [{key: value for key, value in row.items() if key != positions.KEY} for row in rows]


def record_blocks(client: MlflowClient, run_id: str, blocks: Mapping[str, Mapping[str, Any]]) -> None:
    """Record the losses in stretches of the text, of the latest curve: what paired comparisons are made of."""
    if blocks:
        client.log_text(run_id, json.dumps(dict(blocks)), BLOCKS)


def record_scores(client: MlflowClient, run_id: str, scores: Mapping[str, float], step: int) -> None:
    """Record what a curve comes to, `score/NAME` each, at the step at which it was measured; once, as the curve."""
    from mlflow.entities import Metric

    recorded = {key for key in scores if step in _steps(client, run_id, f"score/{key}")}
    now = int(time.time() * 1000)
    metrics = [Metric(f"score/{key}", value, now, step) for key, value in scores.items() if key not in recorded]
    if metrics:
        client.log_batch(run_id, metrics=metrics)


def _steps(client: MlflowClient, run_id: str, key: str) -> set[int]:
    return {point.step for point in client.get_metric_history(run_id, key)}


def read_sheet(folder: Path) -> list[dict[str, Any]]:
    """The latest curve in a run's folder, as it was recorded, by length; empty while there is none."""
    path = folder / SHEET
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # Where one row has a note, the sheet has an empty one for the others.
    return [{key: _value(key, text) for key, text in row.items() if text or key != "note"} for row in rows]


def _value(column: str, text: str) -> str | float | int | None:
    """A cell of the sheet with the type that it had."""
    if column in TEXTS:
        return text
    if not text:
        return None
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _scalars(
    client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, Any]], step: int, train_length: int
) -> None:
    """All in one call, and never twice at one (key, step), which MLflow would draw as a zig-zag.

    A run's first curve is `extrapolation/ppl`; one measured after more training is a chart of its own.
    """
    from mlflow.entities import Metric

    first = client.get_run(run_id).data.tags.get(MEASURED_AT)
    suffix = "" if first in (None, str(step)) else f" step {step:06d}"
    now = int(time.time() * 1000)
    drawn: dict[str, set[int]] = {}
    metrics = []
    for key, value, at in _points(rows, step, suffix, train_length):
        if key not in drawn:
            drawn[key] = _steps(client, run_id, key)
        if at not in drawn[key]:
            metrics.append(Metric(key, value, now, at))
    if metrics:
        client.log_batch(run_id, metrics=metrics)
    if first is None:
        client.set_tag(run_id, MEASURED_AT, step)


def over_train_length(perplexities: Mapping[int, float], train_length: int) -> Iterator[tuple[str, float, int]]:
    """(metric, value, length): perplexity over that at T, where that was measured, and the doublings from T on."""
    at_train = perplexities.get(train_length)
    for length, ppl in perplexities.items():
        if at_train:
            yield OVER_T, ppl / at_train, length
        yield DOUBLINGS, math.log2(length / train_length), length


def _points(
    rows: Sequence[Mapping[str, Any]], step: int, suffix: str, train_length: int
) -> Iterator[tuple[str, float, int]]:
    """(metric, value, step): over the length, and as columns of a table."""
    perplexities = {}
    for row in rows:
        if row["nll"] is None:
            continue
        length, ppl = int(row["length"]), min(float(row["ppl"]), CEILING)
        perplexities[length] = ppl
        yield f"extrapolation/nll{suffix}", _drawable(float(row["nll"])), length
        yield f"extrapolation/ppl{suffix}", ppl, length
        yield f"ppl/{length:06d}", float(f"{ppl:.{FIGURES}g}"), step
    for key, value, length in over_train_length(perplexities, train_length):
        yield (key if key == DOUBLINGS else f"{key}{suffix}"), value, length


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else math.nan
