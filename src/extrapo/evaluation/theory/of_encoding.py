"""What can be said of an encoding alone: its line of logits, its turns, its claims; analytic where there is a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.theory import coherence, content, normalisation
from extrapo.evaluation.theory.built import Layer, at_longest, drawn_line, is_static, layers_of, static_line
from extrapo.evaluation.theory.ldcp import LEVEL, correlation_length, local_distance
from extrapo.evaluation.theory.sensitivity import DISTANCES as GRADIENT_DISTANCES
from extrapo.evaluation.theory.sensitivity import sensitivity
from extrapo.evaluation.theory.summary import mean_rows
from extrapo.evaluation.theory.verdicts import gauged, verdicts

LENGTHS = (64, 256, 1024, 4096, 16384, 65536)
#: A line of distances is that long: a few hundred megabytes.
LONGEST = 2**22
#: Texts over which a line that tokens decide is averaged, in weights.
TEXTS = 4
#: Of the text on which turns are measured.
TURNS = (4096, 1024, 256)

Row = dict[str, Any]
#: Called with (length, done, total).
Progress = Callable[[int, int, int], None]


def of_encoding(
    name: str,
    lengths: Sequence[int] = LENGTHS,
    *,
    heads: int = 8,
    head_dim: int = 64,
    train_length: int = 512,
    kernel: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What the papers' conditions come to at an encoding's starting values.

    Args:
        name: a registered name, several joined by `+`, or a pattern of layers.
        lengths: L, numbers of keys that a query sees.
        heads, head_dim, train_length: the layer's shape, and T.
        kernel, options: as for `encodings.create`.
        seed: of what is drawn.
        progress: called after each length.

    Returns:
        `encoding`; `rows`, a row per length, the mean over heads and layers; `heads`, a row per length, layer and head;
        `coherence`, a row per distance and head of what turns, `content` of what does not; `sensitivity`; `verdicts`
        with their `reasons`. What the rows hold is in docs/theory.md.

    Raises:
        UserError: an unknown name or option, or no length.
    """
    if not lengths or min(lengths) < 1:
        raise UserError(f"`lengths` must be whole numbers from 1 on, not {list(lengths)}")
    if max(lengths) > LONGEST:
        raise UserError(f"`lengths`: at most {LONGEST:,} tokens can be looked at, not {max(lengths):,}")
    lengths = sorted(set(lengths))
    layers = layers_of(
        name, heads=heads, head_dim=head_dim, train_length=train_length, kernel=kernel, options=options, seed=seed
    )
    by_head: list[Row] = []
    document: dict[str, Any] = {"encoding": name, "train_length": train_length, "rows": by_head, "heads": by_head}
    said: dict[str, dict[str, str]] = {"verdicts": {}, "reasons": {}}
    document |= {"coherence": [], "content": [], "sensitivity": [], "notes": {}}
    for number, layer in enumerate(layers):
        by_head += line_rows(layer, lengths, number, progress, document["notes"])
        document["coherence"] += turn_rows(layer, number, train_length)
        document["content"] += content_rows(layer, number)
        document["sensitivity"] += sensitivity_rows(layer, number)
        for claim, verdict in verdicts(layer).items():
            key = claim if len(layers) == 1 else f"{layer.name}: {claim}"
            said["verdicts"][key], said["reasons"][key] = verdict.holds, verdict.why
    document["rows"] = mean_rows(by_head)
    return document | said


@torch.no_grad()
def line_rows(
    layer: Layer,
    lengths: Sequence[int],
    number: int = 0,
    progress: Progress | None = None,
    notes: dict[str, str] | None = None,
) -> list[Row]:
    """A row per length and head; `notes` takes why a length has none."""
    static = is_static(layer)
    rows: list[Row] = []
    texts = TEXTS
    for done, length in enumerate(lengths):
        try:
            if static:
                lines = static_line(layer, length).unsqueeze(0)
            else:
                drawn = [drawn_line(replace(layer, seed=layer.seed + text), length) for text in range(texts)]
                lines = torch.stack(drawn)
        except NotApplicable as why:
            if notes is None:
                raise
            notes[str(length)] = str(why)
            continue
        said = {"source": "analytic"} if static else {"source": "measured", "inputs": "N(0, 1)", "texts": texts}
        rows += [
            {"length": length, "layer": number, "head": head, **said, **line_row(lines[:, head])}
            for head in range(lines.size(1))
        ]
        if not static and torch.equal(lines, lines[:1].expand_as(lines)):
            # Where the text makes no difference, one is enough.
            texts = 1
        if progress is not None:
            progress(length, done + 1, len(lengths))
    return rows


def line_row(lines: Tensor) -> Row:
    """The numbers of one head from its lines over texts, (texts, L): sums in the mean, windows of the mean weights."""
    total, spread, length = normalisation.ln_z(lines), normalisation.entropy(lines), lines.size(-1)
    weights = (lines - total[:, -1:]).exp().mean(0)
    mean = weights.log()
    distance = torch.arange(length, dtype=torch.float64)
    row: Row = {
        "ln_z": float(total[:, -1].mean()),
        "ln_z_slope": float(normalisation.slopes(total, [length]).mean()),
        "entropy": float(spread[:, -1].mean()),
        "entropy_slope": float(normalisation.slopes(spread, [length]).mean()),
        "entropy_share": float(spread[:, -1].mean()) / math.log(length) if length > 1 else None,
        "effective_keys": float(spread[:, -1].exp().mean()),
        "participation": float(1 / ((lines - total[:, -1:]).exp().square().sum(-1)).mean()),
        "mean_distance": float((weights * distance).sum() / weights.sum()),
    }
    row |= {f"window_{round(100 * eps)}": int(normalisation.window(mean, eps)) for eps in normalisation.EPS}
    row["n_50"] = int(normalisation.window(mean, 0.5))
    row["n_90"] = row["window_10"]
    row["local_distance"] = local_distance(gauged(lines).mean(0), LEVEL)
    return row


def turn_rows(layer: Layer, number: int, train_length: int) -> list[Row]:
    """A row per distance and head: coherence of the planes, and the windows that it gives; none where nothing turns."""
    turned = at_longest(lambda length: content.turns(layer, length), TURNS)
    if turned is None:
        return []
    distances = [2**k for k in range((turned.keys.size(1) // 4).bit_length())]
    found = coherence.measured(turned.queries, turned.keys, distances)
    return [{"layer": number, **row} for row in turned_rows(found, distances, None, train_length)]


def turned_rows(
    found: coherence.Coherence, distances: Sequence[int], energy: Tensor | None, train_length: int
) -> list[Row]:
    """A row per distance and head of measured turns; `energy` (H, planes) weighs the planes, None alike."""
    rows: list[Row] = []
    for head in range(found.value.size(0)):
        step = (found.value[head, 0] / found.size[head, 0]).clamp(max=1)
        share = torch.full_like(step, 1 / len(step)) if energy is None else (energy[head] / energy[head].sum()).to(step)
        # By the law of independent steps, which goes on past what a text can measure.
        windows = {f"mixing_{round(100 * eps)}": coherence.mixing_window(step, eps, share) for eps in normalisation.EPS}
        unseen = int(coherence.unseen_planes(found.phase[head, 0], train_length))
        for at, n in enumerate(distances):
            planes = found.value[head, at]
            rows.append(
                {
                    "distance": n,
                    "head": head,
                    "source": "measured",
                    "coherence": float((share * planes).sum()),
                    "error": float((share * found.error[head, at]).square().sum().sqrt()),
                    "of_independent_steps": float((share * step.pow(n)).sum()),
                    "planes": planes.tolist(),
                    "below_half": int((planes < 0.5).sum()),
                    "unseen_planes": unseen,
                    **windows,
                }
            )
    return rows


def content_rows(layer: Layer, number: int) -> list[Row]:
    """A row per distance: what is left of the content, of the mean over heads, and the length at which half is."""
    found, far = content.content(layer), content.far_size(layer)
    phase = found.coherence.mean(0) / found.size.mean(0).clamp_min(1e-12)
    length = correlation_length(phase.tolist(), content.DISTANCES)
    near: list[Row] = [
        {
            "distance": n,
            "layer": number,
            "source": "measured",
            "coherence": float(found.coherence[:, at].mean()),
            "size": float(found.size[:, at].mean()),
            "correlation_length": length,
        }
        for at, n in enumerate(content.DISTANCES)
    ]
    return near + [
        {"distance": n, "layer": number, "source": "measured", "coherence": None, "size": float(far[:, at].mean())}
        for at, n in enumerate(content.FAR[: far.size(1)])
        if n > content.DISTANCES[-1]
    ]


def sensitivity_rows(layer: Layer, number: int) -> list[Row]:
    """A row per distance: the gradients by the query and by the input, in the mean over heads."""
    found = sensitivity(layer)
    return [
        {
            "distance": n,
            "layer": number,
            "source": "measured",
            "magnitude": float(found.magnitude[:, at].mean()),
            "direction": float(found.direction[:, at].mean()),
            "by_input": float(found.by_input[at]),
        }
        for at, n in enumerate(GRADIENT_DISTANCES)
    ]
