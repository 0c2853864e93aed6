"""What came out of a sweep, for people and for MLflow."""

from __future__ import annotations

from pathlib import Path

from extrapo import figures
from extrapo.sweep.summary import Summary, number
from extrapo.terminal import Output
from extrapo.terminal.sweep import sheet
from extrapo.tracking import RunStore, sweeps


def record(summary: Summary, store: RunStore) -> None:
    """Keep the summary in MLflow: the document, the table, the curves of the best per kernel."""
    pictures: list[Path] = []
    best = summary.per_kernel()
    if best:
        length = next(iter(best.values())).trials[0]
        train_length = summary.plan.settings(length.params).seq_len
        curves = {name: group.curve() for name, group in best.items()}
        title = f"{summary.plan.name}: best per {' and '.join(summary.kind())}, mean over seeds"
        figure = figures.curve_figure(curves, train_length=train_length, title=title)
        folder = store.root / "sweeps" / summary.plan.name
        folder.mkdir(parents=True, exist_ok=True)
        pictures.append(figures.save(figure, folder / "best-per-kernel.png"))
    sweeps.record_summary(store, summary.plan.name, summary.document(), summary.rows(), pictures)


def show(summary: Summary, output: Output) -> None:
    """Print what came out."""
    plan = summary.plan
    console = output.wide()
    counts = ", ".join(f"{count} {name}" for name, count in sorted(summary.counts.items()))
    output.say(f"\n{plan.name}: {counts}")
    rows = summary.rows()
    if rows:
        console.print(sheet(rows, [*plan.objective, "seeds"]))
        if any(len(group.trials) > 1 for group in summary.groups):
            output.say("mean ± standard deviation over seeds")
    for name, shares in summary.importance.items():
        listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
        output.say(f"importance for {name} (what tells the better half from the rest, PED-ANOVA): {listed}")
    if summary.front:
        output.say("Pareto front: no other trial is better in every objective")
        front = [
            {
                "trial": trial.number,
                **trial.params,
                **dict(zip(plan.objective, map(number, trial.values), strict=True)),
            }
            for trial in sorted(summary.front, key=lambda trial: trial.values[0])
        ]
        keys = list(dict.fromkeys(key for row in front for key in row))
        console.print(sheet([{key: row.get(key, "-") for key in keys} for row in front], plan.objective))
    for trial, error in summary.errors.items():
        output.say(f"trial {trial} failed: {error}")
