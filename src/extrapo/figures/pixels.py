"""A finished figure as a file, or as an array of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
