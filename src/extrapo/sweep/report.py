"""What came out of a sweep: as lines and tables for people, and kept in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from extrapo import figures
from extrapo.evaluation.comparison import cell_of
from extrapo.sweep.summary import Summary
from extrapo.sweep.text import format_mean, format_value
from extrapo.tracking import RunStore, sweeps


@dataclass(frozen=True)
class Sheet:
    """A table.

    Args:
        rows: with equal keys, each value as text.
        numbers: the keys whose values are numbers.
    """

    rows: Sequence[Mapping[str, str]]
    numbers: Sequence[str]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, object]], numbers: Sequence[str]) -> Sheet:
        """A table of values; None is an empty field."""
        texts = [{key: "" if value is None else format_value(value) for key, value in row.items()} for row in rows]
        return cls(texts, numbers)


def report(summary: Summary) -> Iterator[str | Sheet]:
    """What came out, line by line and table by table."""
    spec = summary.spec
    counts = ", ".join(f"{count} {name}" for name, count in sorted(summary.counts.items()))
    yield f"\n{spec.name}: {counts}"
    rows = summary.rows()
    if rows:
        yield Sheet.of(rows, [*spec.objective, "seeds"])
        if any(len(group.trials) > 1 for group in summary.groups):
            yield "mean ± standard deviation over seeds"
    curves = [
        {**group.cell, **{f"{row['length']:,}": cell_of(row) for row in group.curve()}} for group in summary.groups
    ]
    if curves:
        yield "perplexity by length"
        yield Sheet.of(curves, [key for key in curves[0] if key not in summary.groups[0].cell])
    for name, shares in summary.importance.items():
        listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
        yield f"importance for {name} (what tells the better half from the rest, PED-ANOVA): {listed}"
    if rows and not summary.importance:
        yield "importance: too few trials to tell it from chance"
    if summary.front:
        yield "Pareto front: no other trial is better in every objective"
        front = [
            {
                "trial": trial.number,
                **trial.params,
                **dict(zip(spec.objective, map(format_mean, trial.values), strict=True)),
            }
            for trial in sorted(summary.front, key=lambda trial: trial.values[0])
        ]
        keys = list(dict.fromkeys(key for row in front for key in row))
        yield Sheet.of([{key: row.get(key, "-") for key in keys} for row in front], spec.objective)
    for trial, error in summary.errors.items():
        yield f"trial {trial} failed: {error}"


def record(summary: Summary, store: RunStore) -> None:
    """Keep the summary in MLflow: the document, the table, the curves of the best per kernel."""
    pictures: list[Path] = []
    best = summary.per_kernel()
    if best:
        first = next(iter(best.values())).trials[0]
        train_length = summary.spec.settings(first.params).seq_len
        curves = {name: group.curve() for name, group in best.items()}
        title = f"{summary.spec.name}: best per {' and '.join(summary.kind())}, mean over seeds"
        figure = figures.curve_figure(curves, train_length=train_length, title=title)
        folder = store.root / "sweeps" / summary.spec.name
        folder.mkdir(parents=True, exist_ok=True)
        pictures.append(figures.save(figure, folder / "best-per-kernel.png"))
    sweeps.record_summary(store, summary.spec.name, summary.document(), summary.rows(), pictures)
