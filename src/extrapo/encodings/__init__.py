"""The catalogue of encodings, one family per file: the first import is the list. Composition is by name, `a+b`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

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
from extrapo.encodings.base import Encoding, Paper, Transformed, encodings
from extrapo.encodings.bias import Bias, NoBias, causal_mask
from extrapo.encodings.compose import Composed, Embeddings
from extrapo.encodings.context import Context, Places, Site
from extrapo.encodings.distance import DistanceBias, RelativeBias, distance_bias, index_positions
from extrapo.encodings.named import NAMED, Named
from extrapo.errors import UserError
from extrapo.options import check

__all__ = [
    "Bias",
    "Composed",
    "Context",
    "DistanceBias",
    "Encoding",
    "Named",
    "NoBias",
    "Paper",
    "Places",
    "RelativeBias",
    "Site",
    "Transformed",
    "causal_mask",
    "create",
    "distance_bias",
    "embedding",
    "get",
    "index_positions",
    "names",
    "paper",
    "part_options",
    "register",
    "source",
    "split",
]

register = encodings.register
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
    site: Site | None = None,
    **options: Any,
) -> Encoding:
    """One attention layer's encoding.

    Args:
        name: a registered name, or several joined by `+`.
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D, the width of the layer's input.
        kernel: replaces the kernel of an encoding that has one; UserError for one that has none.
        site: where in the model the layer stands.
        options: the encoding's own, by the names in its docstring; for a composition a mapping per part,
            `rope={"base": 5e5}`.
    """
    per_part = part_options(name, kernel, options)
    built = [(part, encodings.get(part)(heads, head_dim, dim, **own)) for part, own in per_part.items()]
    encoding = built[0][1] if len(built) == 1 else Composed(built)
    encoding.settle(site or Site())
    return encoding


def embedding(
    name: str, *, dim: int, site: Site | None = None, kernel: str | None = None, **options: Any
) -> nn.Module | None:
    """What the encoding adds once to the token embeddings, see Encoding.embedding; None for most."""
    per_part = part_options(name, kernel, options)
    found = [encodings.get(part).embedding(dim, site or Site(), **own) for part, own in per_part.items()]
    modules = [module for module in found if module is not None]
    if not modules:
        return None
    return modules[0] if len(modules) == 1 else Embeddings(modules)


def source(name: str, *, site: Site | None = None, kernel: str | None = None, **options: Any) -> nn.Module | None:
    """What says where the tokens stand, see Encoding.source; None for 0, 1, 2, ..."""
    per_part = part_options(name, kernel, options)
    found = {part: encodings.get(part).source(site or Site(), **own) for part, own in per_part.items()}
    sources = {part: module for part, module in found.items() if module is not None}
    if len(sources) > 1:
        first, second, *_ = sources
        raise UserError(f"'{first}' and '{second}' both say where tokens stand: only one can")
    return next(iter(sources.values()), None)


def split(name: str) -> list[str]:
    """The parts of a name, `rope+k-cable` -> rope, k-cable, each known to the registry."""
    parts = [part for word in name.split("+") for part in _expand(word.strip())]
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
        given = {parts[0]: dict(options)}
    else:
        strangers = [key for key, own in options.items() if key not in parts or not isinstance(own, Mapping)]
        if strangers:
            raise UserError(f"options of a composition go by part ({', '.join(parts)}), not '{min(strangers)}'")
        given = {part: dict(options.get(part, {})) for part in parts}
    for word in name.split("+"):
        if (named := NAMED.get(word.strip())) is not None:
            for part, own in named.options.items():
                given[part] = {**own, **given[part]}
    if kernel is not None:
        takers = [part for part in parts if encodings.get(part).takes_kernel]
        if not takers:
            raise UserError(f"encoding '{'+'.join(parts)}' has no kernel to choose; leave `kernel` out")
        given[takers[0]]["kernel"] = kernel
    for part, own in given.items():
        check("encoding", part, encodings.get(part), own)
    return given


def _expand(word: str) -> list[str]:
    """A name as the registry's own parts: compositions with a name of their own, and prefixes, are taken apart."""
    if word in NAMED:
        return NAMED[word].parts.split("+")
    for prefix in PREFIXES:
        if word.startswith(f"{prefix}-") and word not in encodings:
            return [prefix, *_expand(word.removeprefix(f"{prefix}-"))]
    return [word]
