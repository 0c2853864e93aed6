"""What can be measured of a trained model at one length: attention, turns, contextual positions, receptive field."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from extrapo.block import Block
from extrapo.encodings.core.rotation import pairs
from extrapo.errors import NotApplicable
from extrapo.evaluation.theory import coherence, content, receptive_field
from extrapo.evaluation.theory.attention_statistics import HeadStatistics, add_queries
from extrapo.evaluation.theory.built import Layer, is_static
from extrapo.evaluation.theory.contextual import clock_rows, positions
from extrapo.evaluation.theory.of_encoding import Row, line_rows, turned_rows
from extrapo.evaluation.theory.passes import LayerPass, passes
from extrapo.gpt import GPT

#: Turns are measured on texts no longer than this; their windows go on past it.
LONGEST_TURNS = 8192
#: Receptive fields are measured up to so many times T: the backward pass keeps all layers.
FIELD = 4


def of_model(
    model: GPT, texts: Tensor, train_length: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, list[Row]]:
    """Everything at one length.

    Args:
        model: in evaluation mode.
        texts: (N, L + 1) ids, the last of each a target alone.
        train_length: T.
        progress: called after each layer of each text, with how many there were and how many there are.

    Returns:
        lists of rows, each with `length`: `heads`, `distances`, `coherence`, `contextual`, `fields`.

    Raises:
        NotApplicable: the model is not defined at this length.
    """
    length = texts.size(1) - 1
    found: dict[str, list[Row]] = {"heads": [], "distances": [], "coherence": [], "contextual": [], "fields": []}
    statistics: dict[int, HeadStatistics] = {}
    for number, text in enumerate(texts[:, :-1]):
        for layer in passes(model, text.unsqueeze(0)):
            if number == 0:
                turned = measured_turns(layer)
                found["coherence"] += turned
                clock = positions(layer.encoded.bias)
                if clock is not None and length > 2:
                    found["contextual"] += named(clock_rows(*clock, text, train_length), layer.layer)
                mixing = [row["mixing_10"] for row in turned if row["distance"] == 1] or None
                statistics[layer.layer] = HeadStatistics(length, train_length, mixing)
            add_queries(statistics[layer.layer], layer)
            if progress is not None:
                progress(number * len(model.blocks) + layer.layer + 1, len(texts) * len(model.blocks))
    for index, of_layer in statistics.items():
        found["heads"] += named(of_layer.rows(), index)
        found["distances"] += named(of_layer.distances.rows(), index)
    if length <= FIELD * train_length:
        found["fields"] = [field_row(model, texts)]
    said = {"length": length, "source": "measured", "texts": len(texts)}
    return {name: [{**said, **row} for row in rows] for name, rows in found.items()}


def named(rows: Sequence[Row], layer: int) -> list[Row]:
    """The rows of one layer."""
    return [{"layer": layer, **row} for row in rows]


def field_row(model: GPT, texts: Tensor) -> Row:
    """ERF 50, 90 and 99, and c_n at powers of two."""
    cumulative = receptive_field.cumulative_gradient(model, texts)
    row: Row = {
        f"erf_{round(100 * share)}": receptive_field.reached(cumulative, share) for share in receptive_field.SHARES
    }
    at = sorted({min(2**k, len(cumulative)) for k in range(len(cumulative).bit_length() + 1)})
    return row | {"cumulative": [[n, float(cumulative[n - 1])] for n in at]}


def measured_turns(layer: LayerPass) -> list[Row]:
    """Coherence by distance on the text, its planes weighed by |q_c| |k_c|; none where no planes turn."""
    length = layer.x.size(1)
    if length > LONGEST_TURNS or length < 4:
        return []
    turned = content.plane_turns(layer.encoding, layer.x, layer.context)
    if turned is None:
        return []
    sizes = [torch.stack(pairs(part[0].double(), turned.layout)).norm(dim=0).mean(1) for part in (layer.q, layer.k)]
    found = coherence.measured(turned.queries, turned.keys, turn_distances(length))
    return named(turned_rows(found, turn_distances(length), sizes[0] * sizes[1], length), layer.layer)


def turn_distances(length: int) -> list[int]:
    """Powers of two up to a quarter of the text: of longer stretches there are too few."""
    return [2**k for k in range(max(1, (length // 4).bit_length()))]


def trained_layers(model: GPT) -> list[Layer]:
    """The encodings of a model's layers, as theory looks at an encoding."""
    source = model.sources[model.phase]
    where = None if isinstance(source, torch.nn.Identity) else source
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    return [Layer(f"layer {index}", block.attention.encoding, where) for index, block in enumerate(blocks)]


def analytic_rows(model: GPT, lengths: Sequence[int]) -> list[Row]:
    """The rows of those layers whose trained bias is a line of distance: exact, without a text."""
    rows: list[Row] = []
    for number, layer in enumerate(trained_layers(model)):
        try:
            if is_static(layer):
                rows += line_rows(layer, sorted(lengths), number)
        except NotApplicable:
            continue
    return rows
