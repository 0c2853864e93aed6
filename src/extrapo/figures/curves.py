"""Perplexity against length: a line per encoding, and a caption that says under which protocol."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeAlias

from extrapo.figures.plain import plainly
from extrapo.figures.style import GRID, SOFT, apart, axis_inches, encoding_style, log_axis, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row: TypeAlias = Mapping[str, Any]
#: What may be drawn, and what its axis says.
LABELS = {"ppl": "perplexity", "bits_per_byte": "bits per byte"}
#: Letters of a line of the caption.
CAPTION = 140
#: Length and value.
Coordinates: TypeAlias = tuple[int, float]


@plainly()
def curve_figure(curves: Mapping[str, Sequence[Row]], *, train_length: int, title: str, metric: str = "ppl") -> Figure:
    """Perplexity (or another of LABELS) against length, log-log, one line per name; a name's colour is its encoding's.

    A row has `length`, `ppl`, and may have `tokens`, `protocol`, `description` and `stride`: the caption says them.
    Where it has `low` and `high`, of the loss, a band shows them.
    A row whose `ppl` is None (not applicable) or not finite is left out of the line, and the caption says so.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    lines = {name: _points(rows, metric) for name, rows in curves.items()}
    banded: list[float] = []
    for name, points in lines.items():
        lengths, values = [x for x, _ in points], [y for _, y in points]
        style = encoding_style(name, lines)
        axes.plot(lengths, values, label=name, zorder=3, **style)  # type: ignore[arg-type]
        if (band := _band(curves[name], metric)) is not None:
            banded += [*band[1], *band[2]]
            axes.fill_between(*band, color=str(style["color"]), alpha=0.15, linewidth=0, zorder=2)
    mark(axes, train_length, f"trained at T = {train_length:,}")
    axes.set_yscale("log")
    ticks = sorted({int(row["length"]) for rows in curves.values() for row in rows} | {train_length})
    left, right = ticks[0] / 1.15, ticks[-1] * 1.35
    between = axis_inches(figure, lines) * math.log(ticks[-1] / ticks[0]) / math.log(right / left)
    shown = apart([train_length, ticks[0], ticks[-1], *ticks], between)
    log_axis(axes, "evaluation length (tokens, log scale)", shown)
    axes.set_xlim(left, right)
    _plain_log_ticks(axes, [y for points in lines.values() for _, y in points] + banded)
    _label_points(axes, lines)
    axes.set_ylabel(f"{LABELS[metric]} (log scale)")
    axes.set_title(title or f"{LABELS[metric]} against length", loc="left", fontsize=13, fontweight="bold")
    axes.grid(True, which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        figure.legend(loc="outside right center", frameon=False, title="encoding", alignment="left")
    figure.supxlabel(_caption(curves), x=0.01, ha="left", fontsize=8.5, color=SOFT)
    return figure


def _points(rows: Sequence[Row], metric: str) -> list[Coordinates]:
    finite = [row for row in rows if row.get(metric) is not None and math.isfinite(row[metric])]
    return sorted((int(row["length"]), float(row[metric])) for row in finite)


def _band(rows: Sequence[Row], metric: str) -> tuple[list[int], list[float], list[float]] | None:
    """Lengths, and the values between which that of another text or seed lies; None where none is known."""
    known = [row for row in _by_length(rows) if row.get("low") is not None and row.get(metric) is not None]
    ends = [[_of_loss(float(row[end]), row, metric) for row in known] for end in ("low", "high")]
    return ([int(row["length"]) for row in known], ends[0], ends[1]) if known else None


def _by_length(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["length"]))


def _of_loss(loss: float, row: Row, metric: str) -> float:
    """What a loss other than the row's own comes to."""
    return math.exp(min(loss, 700.0)) if metric == "ppl" else float(row[metric]) * loss / float(row["nll"])


def _plain_log_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at 1, 2, 5 times a power of ten, written as plain numbers; at least a factor of 1.25 in view."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values, default=1.0), max(values, default=1.0)
    slack = max(1.12, math.sqrt(1.25 / (high / low)))
    axes.set_ylim(low / slack, high * slack * 1.08)
    decades = math.log10(high / low)
    wide, narrow = (1.0,), (1.0, 2.0, 5.0) if decades > 0.8 else tuple(1.0 + 0.5 * i for i in range(18))
    axes.yaxis.set_major_locator(LogLocator(10, subs=wide if decades > 5 else narrow))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}" if y < 1e6 else f"{y:.0e}"))


def _label_points(axes: Axes, lines: Mapping[str, Sequence[Coordinates]]) -> None:
    """Write every value where one or two lines leave room, else only the last of each line."""
    low, high = (math.log(y) for y in axes.get_ylim())
    floors: dict[int, float] = {}
    ends = sorted((points[-1][1], name) for name, points in lines.items() if points)
    for value, name in ends:
        length = lines[name][-1][0]
        floors[length] = max(math.log(value), floors.get(length, -math.inf) + 0.035 * (high - low))
        _label(axes, value, (length, math.exp(floors[length])), (8, 0), name, lines)
    for rank, (_, name) in enumerate(ends if len(ends) <= 2 else []):
        for length, value in lines[name][:-1]:
            _label(axes, value, (length, value), (0, 11 if rank == len(ends) - 1 else -11), name, lines)


def _label(
    axes: Axes, value: float, at: Coordinates, offset: tuple[int, int], name: str, names: Collection[str]
) -> None:
    from matplotlib.patheffects import withStroke

    axes.annotate(
        f"{value:,.4g}",
        at,
        xytext=offset,
        textcoords="offset points",
        ha="left" if offset[0] else "center",
        va="center",
        fontsize=8.5,
        color=str(encoding_style(name, names)["color"]),
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        annotation_clip=False,
    )


def _caption(curves: Mapping[str, Sequence[Row]]) -> str:
    """The protocol in a line, then what is not in the picture and why."""
    rows = [row for rows in curves.values() for row in rows]
    # Curves that were recorded before points had a description have a name, and a stride.
    descriptions = {(row["protocol"], str(row["description"])) for row in rows if row.get("description")}
    described = {name for name, _ in descriptions}
    plain = [row for row in rows if row.get("protocol") and row["protocol"] not in described]
    protocols = sorted({*(words for _, words in descriptions), *(str(row["protocol"]) for row in plain)})
    strides = sorted({int(row["stride"]) for row in plain if row.get("stride")})
    tokens = sorted({int(row["tokens"]) for row in rows if row.get("tokens")})
    parts = [f"protocol: {', '.join(protocols)}"] if protocols else []
    if strides:
        whole = all(row.get("stride") == row["length"] for row in plain)
        parts.append("stride = length" if whole else f"stride {_span(strides)}")
    if tokens:
        parts.append(f"{_span(tokens)} tokens scored per length")
    banded = [int(row.get("seeds", 1)) for row in rows if row.get("low") is not None]
    if any(seeds == 1 for seeds in banded):
        parts.append("bands: 95%, other texts of the kind")
    if several := sorted({seeds for seeds in banded if seeds > 1}):
        parts.append(f"bands: mean ± standard deviation over {_span(several)} seeds")
    lines = [" · ".join(parts)] if parts else []
    for reason, absent in (("not applicable", True), ("perplexity not finite", False)):
        gaps = {name: [row["length"] for row in _gaps(rows, absent)] for name, rows in curves.items()}
        where = [f"{name} at {', '.join(map('{:,}'.format, lengths))}" for name, lengths in gaps.items() if lengths]
        lines += [f"{reason}: {'; '.join(where)}"] if where else []
    return "\n".join(fill(line, CAPTION) for line in lines)


def _gaps(rows: Sequence[Row], absent: bool) -> list[Row]:
    """The rows without a perplexity, or those whose perplexity is not finite."""
    if absent:
        return [row for row in rows if row["ppl"] is None]
    return [row for row in rows if row["ppl"] is not None and not math.isfinite(row["ppl"])]


def _span(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
