"""How everything is drawn: one fixed colour per encoding, a marker and a dash per family, one figure, one axis, one T.

The named colours differ by 20 CIE units and more for people without red or green cones as well (Machado 2009), by 35
for others. Numbered lines, such as layers, have the colours of Okabe and Ito.
"""

from __future__ import annotations

import colorsys
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extrapo.figures.pixels import PRINT, save
from extrapo.known import FAMILIES, known

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Mapping[str, str] = {
    "nope": "#90846c",
    "sinusoidal": "#8490fc",
    "learned": "#241800",
    "rope": "#0000fc",
    "alibi": "#ff8c1a",
    "cable": "#e44830",
    "cable-weighted": "#90003c",
    "cable-nw": "#f0a8b4",
    "k-cable": "#7b3fc4",
    "adaptive": "#54c0f0",
    "rope+k-cable": "#0c0060",
    "t5": "#84cc78",
    "kerple-log": "#186c78",
    "kerple-power": "#183c78",
    "fire": "#6c3000",
    "fox": "#3c0030",
    "path": "#f054b4",
}
#: Of numbered lines. Without the yellow, which is lost on white, and the black, which is that of T.
NUMBERED = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = (
    *("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2))),
    *((0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2, 1, 2, 1, 2)), (0, (2, 2))),
)
#: Raster pictures are for print, the others for any size.
DPI, FORMATS = PRINT, ("png", "svg", "pdf")
#: Lines that one picture tells apart.
MOST = len(NUMBERED)
#: Inches of a letter per point of its size, about; points of the numbers below an axis, and inches between two of them.
LETTER, NUMBER, GAP = 0.6 / 72, 8, 0.08
INK, SOFT, GRID = "#222222", "#555555", "#e3e3e3"


def colour(encoding: str) -> str:
    """The colour of an encoding as `#rrggbb`: picked for the well-known, for what is composed with one of these a
    darker shade of its colour, a stable hash for others.
    """
    if encoding in COLOURS:
        return COLOURS[encoding]
    known = [COLOURS[part] for part in encoding.split("+")[1:] if part in COLOURS]
    if known:
        return "#" + "".join(f"{round(0.65 * int(known[-1][at : at + 2], 16)):02x}" for at in (1, 3, 5))
    digest = hashlib.sha256(encoding.encode()).digest()
    hue, lightness, saturation = digest[0] / 256, 0.35 + 0.25 * digest[1] / 256, 0.45 + 0.35 * digest[2] / 256
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, lightness, saturation))


def line_style(number: int) -> Mapping[str, object]:
    """Colour, marker and dash of a numbered line, such as a layer."""
    at = number % MOST
    return {"color": NUMBERED[at], "marker": MARKERS[at], "linestyle": DASHES[at], "markersize": 4, "linewidth": 1.6}


def length_style(number: int, count: int) -> Mapping[str, object]:
    """Colour, marker and dash of the line of one of so many lengths, of which longer ones are darker."""
    from matplotlib import colormaps

    # Its bright end is lost on white.
    shade = colormaps["viridis"](0.8 * (1 - (number + 1) / count))
    return {**line_style(number), "color": shade}


def encoding_style(name: str, names: Collection[str] = ()) -> Mapping[str, object]:
    """Colour, marker and dash of a line that is named after its encoding, and after a comma what else tells it apart.

    Args:
        name: `k-cable`, or `k-cable, layers 6`.
        names: of all lines; where there are several of one encoding, each has another marker and dash, and where all
            are, a colour of its own.
    """
    encoding = name.partition(",")[0]
    alike = [other for other in names if other.partition(",")[0] == encoding]
    number = alike.index(name) if name in alike else 0
    if len(alike) > 1 and len(alike) == len(names) <= MOST:
        return line_style(number)
    at = (FAMILIES.index(known(encoding)[0].family) + number) % len(MARKERS)
    style = {"marker": MARKERS[at], "linestyle": DASHES[at], "markersize": 5, "linewidth": 1.8}
    return {"color": colour(encoding), **style}


def new_figure(title: str, caption: str, size: tuple[float, float] = (7.2, 4.4)) -> tuple[Figure, Axes]:
    """An empty picture with its title and, below, what it rests on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    dress(axes, title)
    explain(figure, caption)
    return figure, axes


def dress(axes: Axes, title: str) -> None:
    """Title, grid and open corners."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(True, which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def explain(figure: Figure, caption: str) -> None:
    """Below a picture, in small letters, what it rests on."""
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=7.5, color=SOFT)


def log_axis(axes: Axes, label: str, ticks: Collection[int] = ()) -> None:
    """The x axis in powers of two, written as plain numbers; with ticks at these places alone, where there are some."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=NUMBER)
    axes.set_xlabel(label)


def axis_inches(figure: Figure, names: Collection[str], size: float = 10.0) -> float:
    """About how wide the axis of a picture is, beside numbers on its left and a legend of names on its right.

    Args:
        figure: the picture.
        names: of the lines.
        size: of the legend's letters, in points.
    """
    legend = 0.7 + LETTER * size * max(map(len, names), default=0)
    return float(figure.get_figwidth()) - 1.0 - legend


def apart(places: Sequence[int], inches: float) -> list[int]:
    """Of places on a logarithmic axis those whose numbers do not touch, the earlier ones first.

    Args:
        places: above 0.
        inches: between the smallest and the largest of them.
    """
    found: list[int] = []
    scale = inches / max(math.log(max(places) / min(places)), 1e-9) if places else 0.0
    for place in places:
        if place not in found and all(scale * abs(math.log(place / other)) >= _beside(place, other) for other in found):
            found.append(place)
    return sorted(found)


def _beside(one: int, other: int) -> float:
    """Inches from the middle of one number to that of the other."""
    return GAP + LETTER * NUMBER * (len(f"{one:,}") + len(f"{other:,}")) / 2


def mark(axes: Axes, at: float, label: str) -> None:
    """A vertical line with its name, such as T."""
    axes.axvline(at, color=INK, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1.5)
    axes.annotate(
        label,
        (at, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=INK,
    )


def save_all(figure: Figure, folder: Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """The picture in every format."""
    return [save(figure, folder / f"{name}.{suffix}") for suffix in formats]
