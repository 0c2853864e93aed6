"""Keys that a query does not see although they came before it: a colour of their own, and the words for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: On no scale of ours, and neither the white of what is later.
MASKED = "#e7a6a1"


def masked_keys(bias: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """(..., T, T): where a key that is no later than the query has the bias -inf, as behind a window."""
    return np.tril(np.isneginf(bias))


def draw_masked(axes: Axes, masked: NDArray[np.bool_]) -> None:
    """Colour what is masked (T, T), over a picture of the other pairs."""
    from matplotlib.colors import ListedColormap

    if masked.any():
        shown = np.where(masked, 1.0, np.nan)
        axes.imshow(shown, cmap=ListedColormap([MASKED]), vmin=0, vmax=1, interpolation="nearest")


def explain_masked(figure: Figure, **place: Any) -> None:
    """Say what the colour means; `place` goes to matplotlib's legend."""
    from matplotlib.patches import Patch

    handles = [Patch(color=MASKED, label="masked:\nnot seen")]
    figure.legend(handles=handles, fontsize=9, frameon=False, handlelength=1.2, **place)
