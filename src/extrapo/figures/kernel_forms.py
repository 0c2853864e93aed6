"""The kernels side by side: each form of a distance at its starting values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from extrapo.figures.plain import plainly
from extrapo.figures.style import NUMBERED, explain, log_axis
from extrapo.kernels import create, get, names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Distances that are drawn, in powers of two, and panels of a row.
FARTHEST, COLUMNS = 13, 5
#: What lies lower is not drawn: a key with such a bias has no weight in float32.
FLOOR = -30.0


@plainly()
@torch.no_grad()
def kernel_figure(chosen: Sequence[str] = ()) -> Figure:
    """A panel per kernel, by name; all of them where none is chosen. One head, the defaults of its constructor."""
    from matplotlib.figure import Figure

    shown = list(chosen) or names()
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(2.5 * columns + 0.6, 1.75 * rows + 0.9), dpi=300, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    z = torch.logspace(0, FARTHEST, 14 * FARTHEST + 1, base=2.0, dtype=torch.float64)
    for number, axes in enumerate(grid.flat):
        if number >= len(shown):
            axes.set_axis_off()
            continue
        values = create(shown[number])(z.float()).double().reshape(-1, z.numel())[0].numpy()
        clipped = bool((values < FLOOR).any())
        axes.plot(z.numpy(), np.where(values < FLOOR, np.nan, values), color=NUMBERED[0], linewidth=1.6)
        axes.set_title(shown[number] + (" ↓" if clipped else ""), loc="left", fontsize=8.5, fontweight="bold")
        log_axis(axes, "", (1, 16, 256, 4096))
        axes.set_xlim(0.8, 2.0**FARTHEST * 1.2)
        axes.tick_params(labelsize=6.5)
        axes.grid(True, color="#e3e3e3", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.text(0.03, 0.06, get(shown[number]).paper, transform=axes.transAxes, fontsize=5.5, color="#777777")
    figure.supylabel("bias (nats)", fontsize=9)
    explain(figure, f"distance in tokens (log scale), one head at its starting values; ↓: goes on below {FLOOR:g}")
    return figure
