"""How far each token moves the clock: a passage whose tokens are coloured by their increments, a block per head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.figures.plain import plainly
from extrapo.figures.sentence_bias import even, shown_token
from extrapo.figures.style import explain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Behind the first token.
BLANK = (0.93, 0.93, 0.93, 1.0)
#: Characters of a line, heads of a picture, and inches of a line's height.
WIDTH, HEADS, LINE = 96, 4, 0.21


@plainly()
def passage_figure(positions: NDArray[np.floating[Any]], tokens: Sequence[str], *, title: str, caption: str) -> Figure:
    """The text once for each head, each with its own scale.

    Args:
        positions: (H, T) S_t.
        tokens: T of them; the first has no increment.
        title, caption: of the picture.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    heads = even(positions.shape[0], HEADS)
    words = [shown_token(token) for token in tokens]
    places = layout(words)
    lines = 1 + max(line for line, _ in places)
    height = len(heads) * (lines * LINE + 0.45) + 0.9
    figure = Figure(figsize=(9.6, height), dpi=300, layout="constrained")
    grid = figure.subplots(len(heads), 1, squeeze=False)[:, 0]
    for head, axes in zip(heads, grid, strict=True):
        steps = np.diff(positions[head])
        mappable = ScalarMappable(Normalize(float(steps.min()), float(steps.max())), cmap="cividis")
        faces = mappable.to_rgba(steps).tolist()
        for t, (word, (line, column)) in enumerate(zip(words, places, strict=True)):
            face = faces[t - 1] if t else BLANK
            axes.add_patch(rectangle(column, line, len(word), face))
            light = 0.299 * face[0] + 0.587 * face[1] + 0.114 * face[2] > 0.55
            axes.text(
                column + len(word) / 2,
                line + 0.5,
                word,
                ha="center",
                va="center",
                fontsize=6.6,
                family="monospace",
                color="#111111" if light else "#ffffff",
            )
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(lines, 0)
        axes.set_axis_off()
        axes.set_title(f"head {head}", loc="left", fontsize=8, pad=2)
        bar = figure.colorbar(mappable, ax=axes, pad=0.01, aspect=12)
        bar.ax.tick_params(labelsize=6.5)
        bar.set_label("increment", fontsize=7)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    chosen = f"; heads {', '.join(map(str, heads))} of {positions.shape[0]}" if len(heads) < positions.shape[0] else ""
    explain(figure, caption + chosen)
    return figure


def rectangle(column: int, line: int, width: int, face: Any) -> Any:
    """The ground of one token."""
    from matplotlib.patches import Rectangle

    return Rectangle((column, line + 0.06), width - 0.12, 0.88, facecolor=face, linewidth=0)


def layout(words: Sequence[str]) -> list[tuple[int, int]]:
    """Line and column of each word."""
    places, line, column = [], 0, 0
    for word in words:
        if column + len(word) > WIDTH and column:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(word)
    return places
