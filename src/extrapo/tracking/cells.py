"""The cells of an experiment, each as one run of an experiment beside it: the table of MLflow's own groups has no
spread, and nobody can choose their colours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures import colour
from extrapo.tracking import cards, views
from extrapo.tracking.curves import CEILING, DOUBLINGS, OVER_T
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

#: The experiment of cells is called as that of the runs, and this.
SUFFIX = ": cells"
#: Of which runs a cell was made, so that it is made anew when there are others.
MEMBERS = "extrapo.members"
VIEW = "extrapo-cells"
MEAN, LOW, HIGH = "extrapolation/ppl", "extrapolation/ppl less one sd", "extrapolation/ppl plus one sd"
CURVE = "mean over seeds, ± one sd"
TOKENS = "by tokens"
#: Begins the tag of a length.
COLUMN = "ppl "


def fit(store: RunStore, experiment_id: str, runs: Sequence[Run]) -> str:
    """Bring the cells of an experiment up to date; returns the id of the experiment that they are in.

    Args:
        store: where both are; must be writable.
        experiment_id: of the runs.
        runs: all of it, newest first.
    """
    name = store.client.get_experiment(experiment_id).name
    beside = RunStore.open(store.location, f"{name}{SUFFIX}")
    cells = _members(runs)
    there = {run.data.tags.get(views.CELL, ""): run for run in beside.runs_of(beside.experiment_id)}
    names = _names(list(cells))
    lengths: set[int] = set()
    varied = list(views.Contents.of([run for members in cells.values() for run in members]).varied)
    for cell, members in cells.items():
        signature = " ".join(run.info.run_id for run in members)
        old = there.pop(cell, None)
        if old is not None and old.data.tags.get(MEMBERS) == signature:
            lengths |= _columns(old)
            if old.info.run_name != names[cell]:
                beside.client.set_tag(old.info.run_id, "mlflow.runName", names[cell])
            continue
        if old is not None:
            # A metric never changes in MLflow.
            beside.client.delete_run(old.info.run_id)
        rows = _mean([_history(store, run) for run in members])
        lengths |= {int(row["length"]) for row in rows}
        _record(beside, (cell, names[cell]), members, rows, signature, varied)
    for gone in there.values():
        beside.client.delete_run(gone.info.run_id)
    views.write(beside.client, beside.experiment_id, {VIEW: ("Cells: mean and spread", _view(sorted(lengths)))})
    return beside.experiment_id


def _members(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each cell that have a curve, by seed; of a training that was done twice, the later one."""
    cells: dict[str, dict[str, Run]] = {}
    for run in reversed(runs):
        if views.CELL in run.data.tags and MEAN in run.data.metrics:
            cells.setdefault(run.data.tags[views.CELL], {})[run.data.params.get("seed", "")] = run
    return {cell: [run for _, run in sorted(of_cell.items())] for cell, of_cell in cells.items()}


def _names(cells: Sequence[str]) -> dict[str, str]:
    """What tells each cell from the others, for a narrow column: its encoding, and what not all of them have."""
    parts = {cell: cell.split(", ") for cell in cells}
    shared = set.intersection(*map(set, parts.values())) if len(cells) > 1 else set()
    return {
        cell: ", ".join(part for i, part in enumerate(told) if i == 0 or part not in shared)
        for cell, told in parts.items()
    }


def _history(store: RunStore, run: Run) -> dict[int, float]:
    """The loss of a run by length."""
    return {point.step: point.value for point in store.client.get_metric_history(run.info.run_id, "extrapolation/nll")}


def _mean(curves: Sequence[Mapping[int, float]]) -> list[dict[str, Any]]:
    """A row per length that all curves have, as `extrapo compare` has it."""
    # PyTorch is loaded with it: where no cell is made, nobody waits for that.
    from extrapo.evaluation.comparison import over_seeds
    from extrapo.evaluation.units import perplexity

    lengths = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [
        over_seeds([{"length": length, "nll": curve[length], "ppl": perplexity(curve[length])} for curve in curves])
        for length in lengths
    ]


def _record(
    beside: RunStore,
    called: tuple[str, str],
    members: Sequence[Run],
    rows: Sequence[Mapping[str, Any]],
    signature: str,
    varied: Sequence[str],
) -> None:
    from mlflow.entities import Param, RunTag

    from extrapo.evaluation.comparison import cell_of

    cell, name = called
    newest = members[-1]
    known = newest.data.params
    run = beside.client.create_run(
        beside.experiment_id,
        run_name=name,
        tags={
            views.CELL: cell,
            MEMBERS: signature,
            "mlflow.runColor": colour(known.get("encoding", "unknown")),
            "mlflow.source.name": "extrapo",
        },
    )
    params = [Param(key, known[key]) for key in (*views.ALWAYS, *varied) if key in known]
    params.append(Param("seeds", str(len(members))))
    tags = [RunTag(_column(row["length"]), cell_of(row)) for row in rows]
    train_length = int(newest.data.tags["extrapo.train_length"])
    metrics = _metrics(rows, train_length)
    beside.client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=tags)
    beside.client.set_terminated(run.info.run_id)


def _metrics(rows: Sequence[Mapping[str, Any]], train_length: int) -> list[Metric]:
    """The mean over the length, and what a standard deviation of the loss less and more makes of it."""
    from mlflow.entities import Metric

    from extrapo.evaluation.units import perplexity

    now = int(time.time() * 1000)
    at_train = next((row["ppl"] for row in rows if row["length"] == train_length), None)
    found: list[Metric] = []
    for row in rows:
        spread = row.get("spread") or 0.0
        values = {
            MEAN: row["ppl"],
            LOW: perplexity(row["nll"] - spread),
            HIGH: perplexity(row["nll"] + spread),
            OVER_T: row["ppl"] / at_train if at_train else math.nan,
            DOUBLINGS: math.log2(row["length"] / train_length),
        }
        found += [
            Metric(key, min(value, CEILING), now, row["length"]) for key, value in values.items() if value == value
        ]
    return found


def _column(length: int) -> str:
    return f"{COLUMN}{length}"


def _columns(cell: Run) -> set[int]:
    """The lengths of which a cell has a column."""
    return {int(key.removeprefix(COLUMN)) for key in cell.data.tags if key.startswith(COLUMN)}


def _view(lengths: Sequence[int]) -> dict[str, Any]:
    shown = [
        cards.line(CURVE, MEAN, LOW, HIGH, against=DOUBLINGS),
        cards.line(CURVE, OVER_T, against=DOUBLINGS, within=cards.NEAR_ONE),
        cards.line(TOKENS, MEAN, log_x=True),
        *(cards.hidden(name) for name in (LOW, HIGH, DOUBLINGS)),
    ]
    # A run is called by what tells its cell from the others: that takes the place of columns.
    columns = {"params.`seeds`": 60, **{f"tags.`{_column(length)}`": 118 for length in lengths}}
    sections = [
        cards.section(CURVE, 1, 420),
        cards.section(TOKENS, 2, 360),
        cards.section("extrapolation", shown=False),
    ]
    by_name = {"orderByKey": "attributes.run_name", "orderByAsc": True}
    return cards.page(shown, sections, columns) | by_name
