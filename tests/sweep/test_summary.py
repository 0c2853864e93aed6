"""What a sweep came to: means, spreads, front and importance of values that are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from extrapo.sweep.queue import CURVE, Queue
from extrapo.sweep.report import Sheet, report
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import open_storage
from extrapo.sweep.study import create_study
from extrapo.sweep.summary import Summary, summarise


def finished(root: Path, values: dict[tuple[Any, ...], tuple[float, ...]], **changes: Any) -> Summary:
    """The summary of a grid whose cells have these values."""
    space = {"kernel": ["linear", "log"], "layers": [2, 4], "seed": [0, 1]}
    spec = SweepSpec(
        **{"name": "mine", "space": space, "objective": "ppl@2T", "fixed": {"encoding": "cable"}, **changes}
    )
    storage = open_storage(None, root)
    queue = Queue(spec, create_study(spec, storage), storage)
    queue.enqueue_missing()
    while (trial := queue.claim()) is not None:
        _, cell = queue.suggest(trial)
        value = values[tuple(cell.values())]
        curve = [{"length": n, "nll": math.log(value[0]) + n / 64, "ppl": 1.0} for n in (64, 128)]
        queue.set_attributes(trial, **{CURVE: curve})
        queue.complete(trial, value)
    return summarise(queue)


GRID = {
    (kernel, layers, seed): (base + 10.0 / layers + seed,)
    for kernel, base in (("linear", 30.0), ("log", 20.0))
    for layers in (2, 4)
    for seed in (0, 1)
}


def test_mean_and_spread_over_seeds_best_first(tmp_path: Path) -> None:
    summary = finished(tmp_path, GRID)
    assert [group.cell for group in summary.groups] == [
        {"kernel": kernel, "layers": layers} for kernel in ("log", "linear") for layers in (4, 2)
    ]
    best = summary.groups[0]
    assert best.mean(0) == pytest.approx(23.0)
    assert best.spread(0) == pytest.approx(math.sqrt(0.5))
    assert summary.rows()[0] == {"kernel": "log", "layers": 4, "ppl@2T": "23 ± 0.71", "seeds": 2}
    assert best.curve()[1]["nll"] == pytest.approx((math.log(22.5) + math.log(23.5)) / 2 + 2)
    assert {name: group.cell["layers"] for name, group in summary.per_kernel().items()} == {
        "kernel log": 4,
        "kernel linear": 4,
    }


def test_the_report_has_a_row_per_group_and_a_column_per_length(tmp_path: Path) -> None:
    summary = finished(tmp_path, GRID)
    said = list(report(summary))
    sheet = said[said.index("perplexity by length") + 1]
    assert isinstance(sheet, Sheet)
    assert sheet.numbers == ["64", "128"]
    assert len(sheet.rows) == 4
    assert (sheet.rows[0]["kernel"], sheet.rows[0]["layers"]) == ("log", "4")
    mean, spread = sheet.rows[0]["64"].split(" ± ")
    assert float(mean) == pytest.approx(math.sqrt(22.5 * 23.5) * math.e, abs=0.01)
    assert float(spread) > 0


def test_what_matters_most_is_named(tmp_path: Path) -> None:
    (shares,) = finished(tmp_path, GRID).importance.values()
    assert shares["kernel"] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.01)


def test_few_trials_say_nothing_of_importance(tmp_path: Path) -> None:
    """Six cells of one seed, and eight: chance alone would split them as well."""
    for layers in ([2, 4, 6], [2, 4, 6, 8]):
        space = {"kernel": ["linear", "log"], "layers": layers, "seed": [0]}
        grid = {(kernel, n, 0): (30.0 + n + (kernel == "log"),) for kernel in ("linear", "log") for n in layers}
        summary = finished(tmp_path / str(len(layers)), grid, space=space)
        assert len(summary.groups) == len(grid)
        assert summary.importance == {}
        assert "importance: too few trials to tell it from chance" in list(report(summary))
    assert not any("too few trials" in str(part) for part in report(finished(tmp_path / "grid", GRID)))


def test_what_matters_where_large_is_good(tmp_path: Path) -> None:
    # The longest lengths come with many layers, by far; the shortest with a kernel.
    lengths = {cell: (1000.0 * cell[1] + (cell[0] == "log") - cell[2],) for cell in GRID}
    (shares,) = finished(tmp_path, lengths, objective="degradation-length").importance.values()
    assert shares["layers"] > 0.9


def test_the_front_of_several_objectives(tmp_path: Path) -> None:
    values = {cell: (value, 1.0) for cell, (value,) in GRID.items()}
    values["linear", 2, 1] = (36.0, 9.0)
    summary = finished(tmp_path, values, objective=["ppl@2T", "degradation-length"])
    assert sorted(tuple(trial.params.values()) for trial in summary.front) == [("linear", 2, 1), ("log", 4, 0)]
    document = summary.document()
    assert [entry["values"] for entry in document["pareto"]] == [t.values for t in summary.front]
    assert summary.groups[0].cell == {"kernel": "log", "layers": 4}


def test_a_value_that_is_infinite_has_no_spread(tmp_path: Path) -> None:
    values = {**GRID, ("log", 4, 1): (math.inf,)}
    summary = finished(tmp_path, values)
    last = summary.groups[-1]
    assert (last.mean(0), last.spread(0)) == (math.inf, None)
