"""What an encoding looks like before any training: what it adds to the logits, and what it leaves of equal contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extrapo.attention import backend
from extrapo.encodings import Context, Encoded, Encoding, LayerSpec, NoBias, Positions
from extrapo.encodings.core.visibility import hidden
from extrapo.encodings.per_layer import Stack, kinds, pattern
from extrapo.figures.masked import draw_masked, explain_masked, masked_keys
from extrapo.figures.plain import plainly
from extrapo.figures.shades import bias_shade

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Contents that the coherence is averaged over.
DRAWS = 16
VOCABULARY = 256


@dataclass(frozen=True)
class Panel:
    """One quantity of the pairs (query, key).

    Args:
        title: what it is.
        values: (H or 1, T, T), NaN where the key is later or has no weight, -inf where it is masked.
    """

    title: str
    values: NDArray[np.float32]

    @property
    def finite(self) -> NDArray[np.float32]:
        """(H or 1, T, T): the values, NaN also where a key is masked."""
        return np.where(np.isfinite(self.values), self.values, np.float32(np.nan))

    def by_distance(self) -> NDArray[np.float32]:
        """(H or 1, T): the mean over all pairs at each distance that are not masked."""
        values = self.finite
        length = values.shape[-1]
        means = np.full(values.shape[:2], np.nan, dtype=np.float32)
        for n in range(length):
            diagonal = values.diagonal(-n, axis1=1, axis2=2)
            if not np.isnan(diagonal).all():
                means[:, n] = np.nanmean(diagonal, axis=1)
        return means

    def varies(self) -> bool:
        """Whether it is not the same everywhere, or masks keys."""
        values = self.finite
        return bool(masked_keys(self.values).any() or np.nanmax(values) - np.nanmin(values) > 1e-6)


@torch.no_grad()
def panels(
    name: str,
    *,
    heads: int = 8,
    head_dim: int = 64,
    length: int = 128,
    kernel: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> list[Panel]:
    """What there is to see of an encoding, at its starting values, on random inputs and contents.

    Args:
        name: a registered name, several joined by `+`, or a pattern of layers, of which each kind is drawn.
        heads, head_dim: the layer's shape.
        length: T.
        kernel, options: as for `encodings.create`.
        seed: of the starting values, the inputs and the contents.

    Returns:
        up to three panels: the similarity of embedded positions (`sinusoidal`, `learned`); the bias; the coherence,
        what is left of <q, k> / |q| |k| where query and key hold the same content, averaged over contents. A panel
        that would be the same everywhere is left out; where nothing else is there (`nope`, `stick-breaking`), the
        weights that random contents get.
    """
    torch.manual_seed(seed)
    spec = LayerSpec(heads, head_dim, heads * head_dim, 0, len(pattern(name)), length, VOCABULARY)
    stack = Stack(name, spec, kernel=kernel, options=options)
    tokens, x = torch.randint(0, VOCABULARY, (1, length)), torch.randn(1, length, spec.dim)
    positions = Positions(Context.plain(x).index)
    if (source := stack.source()) is not None:
        positions = source.eval()(tokens, 0, None)
    context = Context(positions.index, 0, tokens, x, positions.offset)
    drawn = []
    if (embedding := stack.embedding()) is not None:
        added = embedding(torch.zeros_like(x), context)[0]
        added = added / added.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        drawn.append(_panel("similarity of embedded positions", (added @ added.T).unsqueeze(0)))
    layers = kinds(name, spec, kernel=kernel, options=options)
    for one, layer in layers.items():
        whose = f"{one}: " if len(layers) > 1 else ""
        drawn += [replace(panel, title=whose + panel.title) for panel in layer_panels(layer.eval(), x, context)]
    varied = [panel for panel in drawn if panel.varies()]
    return varied or [_panel("weights of random contents", attention_weights(next(iter(layers.values())), x, context))]


def layer_panels(layer: Encoding, x: Tensor, context: Context) -> list[Panel]:
    """The bias of one layer's encoding, if it has one, and its coherence, for queries and keys that all are u.

    The coherence is the mean over DRAWS contents u ~ N(0, 1), the bias that of the first; x is (1, T, D).
    """
    u = torch.randn(DRAWS, layer.heads, 1, layer.head_dim).expand(-1, -1, x.size(1), -1)
    encoded = layer.encode(u, u, u, x=x.expand(DRAWS, -1, -1), context=replace(context, shared={}))
    coherent = _panel("coherence of equal contents", coherence(u, encoded))
    return [coherent] if isinstance(encoded.bias, NoBias) else [_panel("bias", encoded.bias.dense()[0]), coherent]


def attention_weights(layer: Encoding, x: Tensor, context: Context) -> Tensor:
    """(H, T, T): what each key weighs in a query's output; the mean over DRAWS contents q, k ~ N(0, 1)."""
    length = x.size(1)
    q, k = torch.randn(2, DRAWS, layer.heads, length, layer.head_dim)
    one = torch.eye(length).expand(DRAWS, layer.heads, -1, -1)
    x = x.expand(DRAWS, -1, -1)
    encoded = layer.encode(q, k, q, x=x, context=replace(context, shared={}))
    reference = backend("reference")
    return reference(encoded.q, encoded.k, one, encoded.bias, scale=layer.head_dim**-0.5).mean(0)


def coherence(u: Tensor, encoded: Encoded) -> Tensor:
    """(H, T, T): the logit without the bias that is added, over |u|^2, the mean over contents u (N, H, T, d); -inf
    where a key is not seen.
    """
    bias, rows = encoded.bias, slice(0, u.size(2))
    if bias.additive:
        logits = encoded.q @ encoded.k.transpose(-1, -2)
    else:
        logits = bias.score_rows(encoded.q, encoded.k, 1.0, rows) - bias.added(rows)
    coherent = logits.mean(0) / u[:, :, :1].square().sum(-1, keepdim=True).mean(0)
    return coherent.masked_fill(hidden(u.size(2), u.size(2), bias.visibility(), u.device), float("-inf"))


@plainly()
def preview_figure(name: str, rows: Sequence[Panel]) -> Figure:
    """A row per panel: the matrices of three heads, and the mean over all pairs against the distance, head by head."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.6 * len(rows) + 0.5), dpi=100, layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for panel, (*pictures, line) in zip(rows, axes, strict=True):
        heads = panel.values.shape[0]
        shown = sorted({0, heads // 2, heads - 1})
        values, masked = panel.finite, masked_keys(panel.values)
        scale = bias_shade(values, "bias (nats)" if panel.title.endswith("bias") else panel.title)
        shade = scale.mappable()
        for column, cell in enumerate(pictures):
            if column >= len(shown):
                cell.set_axis_off()
                continue
            head = shown[column]
            cell.imshow(values[head], cmap=shade.cmap, norm=shade.norm, interpolation="nearest")
            draw_masked(cell, masked[head])
            cell.set_title(f"{panel.title}\nhead {head}" if heads > 1 else panel.title, fontsize=10)
            cell.set_xlabel("key")
            cell.set_ylabel("query")
        bar = figure.colorbar(shade, ax=list(pictures), shrink=0.9, pad=0.01, extend=scale.extend)
        bar.set_label(scale.label, fontsize=8)
        for head, means in enumerate(panel.by_distance()):
            line.plot(np.arange(1, len(means)), means[1:], color=colormaps["plasma"](0.85 * head / max(1, heads - 1)))
        line.set_xscale("log", base=2)
        line.set_xlabel("distance (tokens, log scale)")
        line.set_title("mean by distance, first head dark", fontsize=10)
        line.grid(True, color="#e3e3e3", linewidth=0.8)
    if any(masked_keys(panel.values).any() for panel in rows):
        explain_masked(figure, loc="outside upper right")
    figure.suptitle(f"{name} at its starting values", fontsize=13, fontweight="bold")
    return figure


def _panel(title: str, values: Tensor) -> Panel:
    """(H or 1, T, T) without what lies above the diagonal."""
    length = values.size(-1)
    return Panel(title, values.float().masked_fill(hidden(length, length, None, values.device), float("nan")).numpy())
