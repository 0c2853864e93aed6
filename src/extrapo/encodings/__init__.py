"""The catalogue of encodings, one family per file. The imports below are the list; composition is by name, `a+b`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from extrapo.encodings.absolute import Learned, NoPE, Sinusoidal
from extrapo.encodings.adaptive import Adaptive
from extrapo.encodings.alibi import ALiBi
from extrapo.encodings.base import Encoding, Paper, Transformed, distance_bias, encodings
from extrapo.encodings.bias import Bias, DistanceBias, NoBias, causal_mask
from extrapo.encodings.cable import Cable, CableNoWeight, CableWeighted, KCable
from extrapo.encodings.compose import Composed, Embeddings
from extrapo.encodings.kerple import KerpleLog, KerplePower
from extrapo.encodings.rotary import RoPE
from extrapo.errors import UserError
from extrapo.options import check

__all__ = [
    "ALiBi",
    "Adaptive",
    "Bias",
    "Cable",
    "CableNoWeight",
    "CableWeighted",
    "Composed",
    "DistanceBias",
    "Encoding",
    "KCable",
    "KerpleLog",
    "KerplePower",
    "Learned",
    "NoBias",
    "NoPE",
    "Paper",
    "RoPE",
    "Sinusoidal",
    "Transformed",
    "causal_mask",
    "create",
    "distance_bias",
    "embedding",
    "get",
    "names",
    "register",
]

register = encodings.register
get = encodings.get
names = encodings.names


def create(name: str, *, heads: int, head_dim: int, dim: int, kernel: str | None = None, **options: Any) -> Encoding:
    """One attention layer's encoding.

    Args:
        name: a registered name, or several joined by `+`.
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D, the width of the layer's input.
        kernel: replaces the kernel of an encoding that has one; UserError for one that has none.
        options: the encoding's own, by the names in its docstring; for a composition a mapping per part,
            `rope={"base": 5e5}`.
    """
    parts = split(name)
    per_part = part_options(parts, kernel, options)
    built = [(part, encodings.get(part)(heads, head_dim, dim, **per_part[part])) for part in parts]
    return built[0][1] if len(built) == 1 else Composed(built)


def embedding(name: str, *, dim: int, train_length: int, kernel: str | None = None, **options: Any) -> nn.Module | None:
    """What the encoding adds once to the token embeddings, see Encoding.embedding; None for most."""
    parts = split(name)
    per_part = part_options(parts, kernel, options)
    found = [encodings.get(part).embedding(dim, train_length, **per_part[part]) for part in parts]
    modules = [module for module in found if module is not None]
    if not modules:
        return None
    return modules[0] if len(modules) == 1 else Embeddings(modules)


def split(name: str) -> list[str]:
    """The parts of a name, `rope+k-cable` -> rope, k-cable, each known to the registry."""
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        encodings.get(part)
    if len(set(parts)) < len(parts):
        raise UserError(f"encoding '{name}' names a part twice")
    return parts


def part_options(parts: list[str], kernel: str | None, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each part, checked against what its class takes."""
    if len(parts) == 1:
        given = {parts[0]: dict(options)}
    else:
        strangers = [key for key, own in options.items() if key not in parts or not isinstance(own, Mapping)]
        if strangers:
            raise UserError(f"options of a composition go by part ({', '.join(parts)}), not '{min(strangers)}'")
        given = {part: dict(options.get(part, {})) for part in parts}
    if kernel is not None:
        takers = [part for part in parts if encodings.get(part).takes_kernel]
        if not takers:
            raise UserError(f"encoding '{'+'.join(parts)}' has no kernel to choose; leave --kernel out")
        given[takers[0]]["kernel"] = kernel
    for part, own in given.items():
        check("encoding", part, encodings.get(part), own)
    return given
