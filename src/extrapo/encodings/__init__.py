"""The catalogue of encodings, one family per file: the first import is the list. Composition is by name, `a+b`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from extrapo.encodings import (  # noqa: F401
    absolute,
    accumulated,
    adaptive,
    alibi,
    bam,
    bipe,
    cable,
    carope,
    cope,
    dape,
    dynamic,
    fire,
    fox,
    grape_bias,
    grape_rotation,
    interpolated,
    interpolated_dynamic,
    kerple,
    mep,
    path,
    pope,
    randomized,
    relative_projection,
    rerope,
    rotary,
    sandwich,
    scales,
    selective,
    shaw,
    stick_breaking,
    t5,
    tapa,
    tape,
    transformer_xl,
    windows,
    xpos,
)
from extrapo.encodings.core import (
    AddedBias,
    Additive,
    Affine,
    Bias,
    Composed,
    Context,
    DistanceBias,
    Elementwise,
    Encoded,
    Encoding,
    LayerSpec,
    LayerState,
    Logit,
    NoBias,
    Paper,
    Positions,
    Relative,
    Rowwise,
    Transformed,
    Visibility,
    distance_bias,
    encodings,
    index_positions,
    register,
    wide_enough,
    with_past,
)
from extrapo.encodings.named import NAMED, Named
from extrapo.errors import UserError
from extrapo.options import check

__all__ = [
    "AddedBias",
    "Additive",
    "Affine",
    "Bias",
    "Composed",
    "Context",
    "DistanceBias",
    "Elementwise",
    "Encoded",
    "Encoding",
    "LayerSpec",
    "LayerState",
    "Logit",
    "Named",
    "NoBias",
    "Paper",
    "Positions",
    "Relative",
    "Rowwise",
    "Transformed",
    "Visibility",
    "build",
    "create",
    "distance_bias",
    "get",
    "index_positions",
    "names",
    "paper",
    "part_options",
    "register",
    "split",
    "wide_enough",
    "with_past",
]

get = encodings.get

#: `randomized-X` is `randomized+X`, for any X.
PREFIXES = ("randomized",)


def names() -> list[str]:
    """All names: those of single schemes, and those of compositions that have one."""
    return sorted({*encodings.names(), *NAMED})


def create(
    name: str,
    *,
    heads: int,
    head_dim: int,
    dim: int,
    kernel: str | None = None,
    layer: int = 0,
    layers: int = 1,
    train_length: int = 512,
    vocab_size: int = 256,
    **options: Any,
) -> Encoding:
    """One attention layer's encoding.

    Args:
        name: a registered name, or several joined by `+`.
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D, the width of the layer's input.
        kernel: replaces the kernel of an encoding that has one; UserError for one that has none.
        layer, layers, train_length, vocab_size: where in which model it stands, see LayerSpec.
        options: the encoding's own, by the names in its docstring; for a composition a mapping per part,
            `rope={"base": 5e5}`.
    """
    spec = LayerSpec(heads, head_dim, dim, layer, layers, train_length, vocab_size)
    return build(name, spec, kernel=kernel, options=options)


def build(
    name: str,
    spec: LayerSpec,
    *,
    kernel: str | None = None,
    options: Mapping[str, Any] | None = None,
    peers: Mapping[str, tuple[int, ...]] | None = None,
) -> Encoding:
    """The encoding of the layer that `spec` describes; `peers` are the layers that have each part, None all of them.

    Other arguments are as those of `create`.
    """
    per_part = part_options(name, kernel, options or {})
    specs = {part: spec if peers is None else replace(spec, peers=peers[part]) for part in per_part}
    parts = {part: encodings.get(part)(specs[part], **own) for part, own in per_part.items()}
    return next(iter(parts.values())) if len(parts) == 1 else Composed(parts)


def split(name: str) -> list[str]:
    """The parts of a name, `rope+k-cable` -> rope, k-cable, each known to the registry."""
    words = [word.strip() for word in name.split("+")]
    if not all(words):
        raise UserError(f"encoding '{name}' has a part without a name: write NAME+NAME")
    parts = [part for word in words for part in _expand(word)]
    for part in parts:
        encodings.get(part)
    if len(set(parts)) < len(parts):
        raise UserError(f"encoding '{name}' names a part twice")
    return parts


def paper(name: str) -> Paper:
    """What the catalogue says of a name."""
    if name in NAMED:
        return NAMED[name].paper
    first, *rest = [encodings.get(part).paper for part in split(name)]
    for other in rest:
        first = replace(first, source=f"{first.source}; {other.source}", summary=f"{first.summary}; {other.summary}")
    return first


def part_options(name: str, kernel: str | None, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a name with the options of each, checked against what its class takes."""
    parts = split(name)
    if len(parts) == 1:
        by_part = {parts[0]: dict(options)}
    else:
        strangers = [key for key, own in options.items() if key not in parts or not isinstance(own, Mapping)]
        if strangers:
            raise UserError(f"options of a composition go by part ({', '.join(parts)}), not '{min(strangers)}'")
        by_part = {part: dict(options.get(part, {})) for part in parts}
    for word in name.split("+"):
        if (named := NAMED.get(word.strip())) is not None:
            for part, own in named.options.items():
                by_part[part] = {**own, **by_part[part]}
    if kernel is not None:
        takers = [part for part in parts if encodings.get(part).takes_kernel]
        if not takers:
            raise UserError(f"encoding '{'+'.join(parts)}' has no kernel to choose; leave `kernel` out")
        by_part[takers[0]]["kernel"] = kernel
    for part, own in by_part.items():
        check("encoding", part, encodings.get(part), own)
    return by_part


def _expand(word: str) -> list[str]:
    """A name as the registry's own parts: compositions with a name of their own, and prefixes, are taken apart."""
    if word in NAMED:
        return NAMED[word].parts.split("+")
    for prefix in PREFIXES:
        if word.startswith(f"{prefix}-") and word not in encodings:
            return [prefix, *_expand(word.removeprefix(f"{prefix}-"))]
    return [word]
