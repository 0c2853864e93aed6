"""Cable's figure 8 (2503.08067): the bias of each layer and head on a short sentence, its tokens on the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.figures.masked import draw_masked, explain_masked, masked_keys
from extrapo.figures.plain import plainly
from extrapo.figures.shades import bias_shade
from extrapo.figures.style import explain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Layers and heads that one picture shows, and tokens whose values are written into their cells.
LAYERS, HEADS, WRITTEN = 6, 8, 6


@plainly()
def sentence_figure(
    biases: Sequence[NDArray[np.floating[Any]]], tokens: Sequence[str], *, title: str, caption: str
) -> Figure:
    """A row per layer, a column per head, all on one scale; of many, evenly chosen ones, which the caption says.

    Args:
        biases: (H, T, T) of each layer, -inf where a key is not seen.
        tokens: T of them.
        title, caption: of the picture.
    """
    from matplotlib.figure import Figure

    tokens = [shown_token(token) for token in tokens]
    layers, heads = even(len(biases), LAYERS), even(biases[0].shape[0], HEADS)
    shown = np.stack([biases[layer][heads] for layer in layers])
    masked = masked_keys(shown)
    visible = np.where(np.isfinite(shown), shown, np.nan)
    shade = bias_shade(visible)
    size = 1.15 if len(tokens) <= WRITTEN else 1.6
    figure = Figure(figsize=(size * len(heads) + 2.2, size * len(layers) + 1.6), dpi=300, layout="constrained")
    grid = figure.subplots(len(layers), len(heads), squeeze=False, sharex=True, sharey=True)
    mappable = shade.mappable()
    for (row, column), axes in np.ndenumerate(grid):
        values = visible[row, column]
        axes.imshow(values, cmap=mappable.cmap, norm=mappable.norm, interpolation="nearest")
        draw_masked(axes, masked[row, column])
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=6.5)
        axes.set_yticks(range(len(tokens)), tokens, fontsize=6.5)
        axes.spines[["top", "right"]].set_visible(False)
        if row == 0:
            axes.set_title(f"head {heads[column]}", fontsize=8)
        if column == 0:
            axes.set_ylabel(f"layer {layers[row]}", fontsize=8)
        if len(tokens) <= WRITTEN:
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    dark = sum(mappable.to_rgba(value)[:3]) < 1.5
                    axes.text(
                        j, i, f"{value + 0.0:.2g}", ha="center", va="center", fontsize=5, color="w" if dark else "k"
                    )
    figure.colorbar(mappable, ax=grid, extend=shade.extend, shrink=0.9, pad=0.01).set_label(shade.label, fontsize=8)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    chosen = [
        f"{name} {', '.join(map(str, some))} of {count}"
        for name, some, count in (("layers", layers, len(biases)), ("heads", heads, biases[0].shape[0]))
        if len(some) < count
    ]
    explain(figure, "; ".join([caption, *chosen]))
    if masked.any():
        explain_masked(figure, loc="lower right")
    return figure


def shown_token(token: str) -> str:
    """A token as it is printed: no line ends, no character that has no width; `·` is a space."""
    marked = token.replace("\n", "⏎").replace("\t", "→").replace(" ", "·").replace("$", r"\$")
    return "".join(sign if sign.isprintable() else "�" for sign in marked) or "∅"


def even(count: int, most: int) -> list[int]:
    """At most so many of them, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(at * (count - 1) / (most - 1)) for at in range(most)})
