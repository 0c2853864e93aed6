"""How theory is drawn: colours that the colour-blind tell apart (Okabe and Ito), a marker and a dash for each line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from extrapo.figures.pixels import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Without the yellow, which is lost on white, and the black, which is that of T.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)))
#: Raster pictures are for print, the others for any size.
DPI, FORMATS = 300, ("png", "svg", "pdf")
#: Lines that one picture tells apart.
MOST = len(COLOURS)


def line_style(number: int) -> Mapping[str, object]:
    """Colour, marker and dash of a line."""
    at = number % MOST
    return {"color": COLOURS[at], "marker": MARKERS[at], "linestyle": DASHES[at], "markersize": 4, "linewidth": 1.6}


def new_figure(title: str, caption: str) -> tuple[Figure, Axes]:
    """An empty picture with its title and, below, what it rests on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(True, which="major", color="#e3e3e3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=7.5, color="#555555")
    return figure, axes


def log_distance(axes: Axes, label: str) -> None:
    """The x axis in powers of two, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(label)


def mark(axes: Axes, at: float, label: str) -> None:
    """A vertical line with its name, such as T."""
    axes.axvline(at, color="#222222", linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    axes.annotate(
        label,
        (at, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color="#222222",
    )


def save_all(figure: Figure, folder: Path, name: str) -> list[Path]:
    """The picture in every format."""
    return [save(figure, folder / f"{name}.{suffix}") for suffix in FORMATS]
