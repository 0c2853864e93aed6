"""What attention and training cost beside plain causal attention, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.figures.plain import plainly

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plainly()
def bench_figure(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Time over that of plain causal attention: one panel per phase, one bar per contender and length.

    A row has `encoding`, `impl`, `length`, `phase`, `ratio`, and `asked` where `auto` stands beside what it took.
    """
    from matplotlib.figure import Figure

    phases, lengths = (list(dict.fromkeys(row[key] for row in rows)) for key in ("phase", "length"))
    names = list(dict.fromkeys((row["encoding"], path(row)) for row in rows))
    figure = Figure(figsize=(4.6 * len(phases), 1.2 + 0.3 * len(names) * max(1, len(lengths)) ** 0.5), dpi=110)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(phases), squeeze=False, sharey=True)[0]
    height = 0.8 / len(lengths)
    for axes, phase in zip(panels, phases, strict=True):
        for index, length in enumerate(lengths):
            ratios = {
                (r["encoding"], path(r)): r["ratio"] for r in rows if (r["phase"], r["length"]) == (phase, length)
            }
            at = [names.index(name) + (index - (len(lengths) - 1) / 2) * height for name in ratios]
            shade = 0.35 + 0.5 * index / max(1, len(lengths) - 1)
            axes.barh(at, list(ratios.values()), height=height, color=(0.2, 0.35, 0.6, shade), label=f"T = {length:,}")
            for y, ratio in zip(at, ratios.values(), strict=True):
                axes.annotate(f"{ratio:.2f}", (ratio, y), (2, 0), textcoords="offset points", va="center", fontsize=7)
        axes.axvline(1.0, color="#444444", linestyle=(0, (4, 3)), linewidth=1.2)
        axes.set_title(phase, fontsize=10)
        axes.set_xlabel("ratio")
        axes.margins(x=0.12)
        axes.set_yticks(range(len(names)), [f"{name} ({impl})" if impl != "-" else name for name, impl in names])
    panels[0].invert_yaxis()
    panels[-1].legend(fontsize=8)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def path(row: Mapping[str, Any]) -> str:
    """What served, and that nothing was asked for."""
    impl: str = row["impl"]
    return f"auto: {impl}" if row.get("asked") == "auto" else impl
