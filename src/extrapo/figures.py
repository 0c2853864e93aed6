"""Arrays to pictures: perplexity against length, the bias matrices of one layer, what attention costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extrapo.colours import colour
from extrapo.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row: TypeAlias = Mapping[str, Any]
Point: TypeAlias = tuple[int, float]

__all__ = ["bench_figure", "colour", "curve_figure", "heatmap_figure", "save", "to_array"]


def curve_figure(curves: Mapping[str, Sequence[Row]], *, train_length: int, title: str) -> Figure:
    """Perplexity against length, log-log, one line per name; a name's colour is its encoding's.

    A row has `length`, `ppl`, and may have `tokens`, `protocol` and `stride`. A row whose `ppl` is None (not
    applicable) or not finite is left out of the line, and the caption says so.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure = Figure(figsize=(9.6, 5.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    lines = {name: _points(rows) for name, rows in curves.items()}
    for name, points in lines.items():
        lengths, values = [x for x, _ in points], [y for _, y in points]
        axes.plot(lengths, values, "o-", color=colour(name), label=name, linewidth=2, markersize=5, zorder=3)
    axes.axvline(train_length, color="#444444", linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
    axes.annotate(
        f"trained at T = {train_length:,}",
        (train_length, 1),
        xycoords=("data", "axes fraction"),
        xytext=(5, -6),
        textcoords="offset points",
        va="top",
        color="#444444",
        fontsize=9,
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({int(row["length"]) for rows in curves.values() for row in rows} | {train_length})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlim(min(ticks) / 1.15, max(ticks) * 1.35)
    _plain_log_ticks(axes, [y for points in lines.values() for _, y in points])
    _label_points(axes, lines)
    axes.set_xlabel("evaluation length (tokens, log scale)")
    axes.set_ylabel("perplexity (log scale)")
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
    axes.grid(True, which="major", color="#e3e3e3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        figure.legend(loc="outside right upper", frameon=False, title="encoding", alignment="left")
    figure.supxlabel(_caption(curves), x=0.01, ha="left", fontsize=8.5, color="#555555")
    return figure


def heatmap_figure(bias: NDArray[np.floating[Any]], *, title: str) -> Figure:
    """One layer's bias (H, T, T), heads in a grid under one colour scale; -inf (the future) stays blank.

    The scale runs from the 2nd percentile of the visible values to their largest, so that a few far keys do
    not flatten everything else; the colour bar says what lies below it.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    heads, length = bias.shape[0], bias.shape[-1]
    rows, columns = _grid(heads)
    visible = np.where(np.isfinite(bias), bias, np.nan).astype(np.float32)
    low, high, label, extend = _scale(visible)
    shade = ScalarMappable(Normalize(low, high), cmap="viridis")
    # Margins in inches rather than a layout engine, which costs more than all the drawing.
    width, height, left, right, bottom, top = 2.0 * columns + 2.0, 2.1 * rows + 1.1, 0.7, 1.45, 0.65, 0.75
    figure = Figure(figsize=(width, height), dpi=100)
    box = {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": bottom / height,
        "top": 1 - top / height,
    }
    layout = figure.add_gridspec(rows, columns, wspace=0.08, hspace=0.16, **box)
    grid = layout.subplots(sharex=True, sharey=True, squeeze=False)
    for head, axes in enumerate(grid.flat):
        if head >= heads:
            axes.set_axis_off()
            continue
        axes.imshow(visible[head], cmap=shade.cmap, norm=shade.norm, interpolation="nearest")
        axes.set_title(f"head {head}", fontsize=10, pad=3)
        axes.set_xticks([0, length - 1])
        axes.set_yticks([0, length - 1])
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=13, fontweight="bold", y=1 - 0.18 / height, va="top")
    figure.text((box["left"] + box["right"]) / 2, 0.16 / height, "key", ha="center", fontsize=11)
    figure.text(0.16 / width, (box["bottom"] + box["top"]) / 2, "query", va="center", rotation=90, fontsize=11)
    bar = figure.add_axes((1 - (right - 0.2) / width, box["bottom"], 0.17 / width, box["top"] - box["bottom"]))
    figure.colorbar(shade, cax=bar, extend=extend).set_label(label, fontsize=9)
    return figure


def bench_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Time over that of plain causal attention: one panel per phase, one bar per contender and length.

    A row has `encoding`, `impl`, `length`, `phase`, `ratio`.
    """
    from matplotlib.figure import Figure

    phases, lengths = (list(dict.fromkeys(row[key] for row in rows)) for key in ("phase", "length"))
    names = list(dict.fromkeys((row["encoding"], row["impl"]) for row in rows))
    figure = Figure(figsize=(4.6 * len(phases), 1.2 + 0.3 * len(names) * max(1, len(lengths)) ** 0.5), dpi=110)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(phases), squeeze=False, sharey=True)[0]
    thick = 0.8 / len(lengths)
    for axes, phase in zip(panels, phases, strict=True):
        for place, length in enumerate(lengths):
            found = {
                (r["encoding"], r["impl"]): r["ratio"] for r in rows if (r["phase"], r["length"]) == (phase, length)
            }
            at = [names.index(name) + (place - (len(lengths) - 1) / 2) * thick for name in found]
            shade = 0.35 + 0.5 * place / max(1, len(lengths) - 1)
            axes.barh(at, list(found.values()), height=thick, color=(0.2, 0.35, 0.6, shade), label=f"T = {length:,}")
            for y, ratio in zip(at, found.values(), strict=True):
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


def save(figure: Figure, path: Path) -> Path:
    """Write the picture in the format of its suffix; a half-written file never replaces a good one."""
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."))
    return path


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """The picture as pixels, (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def _points(rows: Sequence[Row]) -> list[Point]:
    finite = [row for row in rows if row["ppl"] is not None and math.isfinite(row["ppl"])]
    return sorted((int(row["length"]), float(row["ppl"])) for row in finite)


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


def _label_points(axes: Axes, lines: Mapping[str, Sequence[Point]]) -> None:
    """Write every value where one or two lines leave room, else only the last of each line."""
    low, high = (math.log(y) for y in axes.get_ylim())
    floors: dict[int, float] = {}
    ends = sorted((points[-1][1], name) for name, points in lines.items() if points)
    for value, name in ends:
        length = lines[name][-1][0]
        floors[length] = max(math.log(value), floors.get(length, -math.inf) + 0.035 * (high - low))
        _label(axes, value, (length, math.exp(floors[length])), (8, 0), name)
    for rank, (_, name) in enumerate(ends if len(ends) <= 2 else []):
        for length, value in lines[name][:-1]:
            _label(axes, value, (length, value), (0, 11 if rank == len(ends) - 1 else -11), name)


def _label(axes: Axes, value: float, at: Point, offset: tuple[int, int], name: str) -> None:
    from matplotlib.patheffects import withStroke

    axes.annotate(
        f"{value:,.4g}",
        at,
        xytext=offset,
        textcoords="offset points",
        ha="left" if offset[0] else "center",
        va="center",
        fontsize=8.5,
        color=colour(name),
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        annotation_clip=False,
    )


def _caption(curves: Mapping[str, Sequence[Row]]) -> str:
    """The protocol in a line, then what is not in the picture and why."""
    rows = [row for rows in curves.values() for row in rows]
    protocols = sorted({str(row["protocol"]) for row in rows if row.get("protocol")})
    strides = sorted({int(row["stride"]) for row in rows if row.get("stride")})
    tokens = sorted({int(row["tokens"]) for row in rows if row.get("tokens")})
    parts = [f"protocol: {', '.join(protocols)}"] if protocols else []
    if strides:
        whole = all(row.get("stride") == row["length"] for row in rows)
        parts.append("stride = length" if whole else f"stride {_span(strides)}")
    if tokens:
        parts.append(f"{_span(tokens)} tokens scored per length")
    said = [" · ".join(parts)] if parts else []
    for reason, absent in (("not applicable", True), ("perplexity not finite", False)):
        gaps = {name: [row["length"] for row in _gaps(rows, absent)] for name, rows in curves.items()}
        where = [f"{name} at {', '.join(map('{:,}'.format, found))}" for name, found in gaps.items() if found]
        said += [f"{reason}: {'; '.join(where)}"] if where else []
    return "\n".join(said)


def _gaps(rows: Sequence[Row], absent: bool) -> list[Row]:
    """The rows without a perplexity, or those whose perplexity is not finite."""
    if absent:
        return [row for row in rows if row["ppl"] is None]
    return [row for row in rows if row["ppl"] is not None and not math.isfinite(row["ppl"])]


def _span(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _grid(heads: int) -> tuple[int, int]:
    """Rows and columns for so many heads: landscape, near 1.6 to 1, few empty cells."""

    def cost(rows: int) -> float:
        columns = math.ceil(heads / rows)
        return 3 * (rows * columns - heads) / heads + abs(math.log(columns / rows / 1.6))

    rows = min(range(1, heads + 1), key=cost)
    return rows, math.ceil(heads / rows)


def _scale(visible: NDArray[np.float32]) -> tuple[float, float, str, str]:
    """Lower end, upper end, label and `extend` of the colour bar for values with NaN where nothing shows."""
    values = visible[~np.isnan(visible)]
    if values.size == 0 or values.min() == values.max():
        level = float(values[0]) if values.size else 0.0
        return level - 1, level + 1, f"bias\n{level:.3g} everywhere", "neither"
    least, high = float(values.min()), float(values.max())
    low = float(np.percentile(values, 2))
    if low <= least or low >= high:
        return least, high, "bias", "neither"
    return low, high, f"bias\n2 % lie below {low:.3g}, down to {least:.3g}", "min"
