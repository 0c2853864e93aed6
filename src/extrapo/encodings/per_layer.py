"""The encodings of all layers of a model by one name, `rope+window:3,nope:1`: three of the first, one of the second,
and so on; and what they bring to the bottom of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from extrapo import encodings
from extrapo.encodings.core.compose import Composed, Embeddings
from extrapo.encodings.core.encoding import Encoding
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.reading import shortened

#: Of a number of layers: a name in somebody's record is not to fill the memory.
DIGITS = 5


def pattern(name: str) -> list[str]:
    """The names that repeat, from `NAME[:COUNT]` by commas: `rope,nope:2` -> rope, nope, nope.

    Raises:
        UserError: a count that is no whole number above 0, or larger than any model.
    """
    names: list[str] = []
    for entry in name.split(","):
        one, colon, count = (part.strip() for part in entry.partition(":"))
        if not one or (colon and not (count.isdecimal() and len(count) <= DIGITS and int(count) > 0)):
            wanted = f"NAME or NAME:COUNT, COUNT at least 1 and of {DIGITS} digits at most"
            raise UserError(f"encoding '{shortened(name)}': '{shortened(entry.strip())}' must be {wanted}")
        names += [one] * int(count or 1)
    return names


def layer_names(name: str, layers: int) -> list[str]:
    """The name of each layer's encoding; UserError where there are fewer layers than the pattern has."""
    repeated = pattern(name)
    if layers < len(repeated) and len(set(repeated)) > 1:
        raise UserError(f"encoding '{name}' names {len(repeated)} layers, and the model has {layers}")
    return [repeated[layer % len(repeated)] for layer in range(layers)]


class Stack:
    """One encoding per layer of a model.

    Args:
        name: see above.
        spec: of the first layer.
        kernel: replaces the kernel of the encodings that have one.
        options: the encoding's own, for a composition by part; where layers differ always by part.
        share: whether layers of one name use one module; None is as the scheme's authors do.

    Raises:
        UserError: an unknown name; options or a kernel that none takes; layers that disagree on where tokens stand.
    """

    def __init__(
        self,
        name: str,
        spec: LayerSpec,
        *,
        kernel: str | None = None,
        options: Mapping[str, Any] | None = None,
        share: bool | None = None,
    ) -> None:
        names = layer_names(name, spec.layers)
        own, peers = options_by_name(names, kernel, options or {}), layers_by_part(names)
        self.layers: list[Encoding] = []
        #: the first of each name.
        self.distinct: dict[str, Encoding] = {}
        for layer, one in enumerate(names):
            # Made also where it is shared: what is drawn after it starts from the same numbers either way.
            made = encodings.build(one, replace(spec, layer=layer), peers=peers, **own[one])
            first = self.distinct.setdefault(one, made)
            self.layers.append(first if (first.shared_by_layers if share is None else share) else made)
        self._parts: dict[str, Encoding] = {}
        for one, encoding in self.distinct.items():
            self._parts |= dict(encoding.members()) if isinstance(encoding, Composed) else {one: encoding}

    def source(self) -> nn.Module | None:
        """What says where the model's tokens stand; None for 0, 1, 2, ..."""
        sources = self._brought(lambda part: part.source())
        if len(sources) > 1:
            first, second, *_ = sources
            raise UserError(f"'{first}' and '{second}' both say where tokens stand: only one can")
        return next(iter(sources.values()), None)

    def embedding(self) -> nn.Module | None:
        """What adds positions to the token embeddings; None for most."""
        embeddings = list(self._brought(lambda part: part.embedding()).values())
        return embeddings[0] if len(embeddings) == 1 else Embeddings(embeddings) if embeddings else None

    def _brought(self, make: Callable[[Encoding], nn.Module | None]) -> dict[str, nn.Module]:
        """What the parts of all layers bring, each part once."""
        made = {name: make(part) for name, part in self._parts.items()}
        return {name: module for name, module in made.items() if module is not None}


def layers_by_part(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The layers that have each part, alone or in a composition, of the name of each layer."""
    holders: dict[str, list[int]] = {}
    for layer, name in enumerate(names):
        for part in encodings.split(name):
            holders.setdefault(part, []).append(layer)
    return {part: tuple(layers) for part, layers in holders.items()}


def kinds(
    name: str, spec: LayerSpec, *, kernel: str | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Encoding]:
    """The encoding of each distinct name of a pattern, as in a model of one layer, so that it needs no other layer.

    Arguments are those of Stack.
    """
    own = options_by_name(pattern(name), kernel, options or {})
    return {one: encodings.build(one, replace(spec, layer=0, layers=1), **chosen) for one, chosen in own.items()}


def options_by_name(names: list[str], kernel: str | None, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The `kernel` and the `options` of each distinct name of the layers."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) == 1:
        return {distinct[0]: {"kernel": kernel, "options": options}}
    parts = {name: encodings.split(name) for name in distinct}
    part_names = [part for own in parts.values() for part in own]
    strangers = [key for key, own in options.items() if key not in part_names or not isinstance(own, Mapping)]
    if strangers:
        raise UserError(f"options of layers that differ go by part ({', '.join(part_names)}), not '{min(strangers)}'")
    takers = [name for name, own in parts.items() if any(encodings.get(part).takes_kernel for part in own)]
    if kernel is not None and not takers:
        raise UserError(f"encoding '{','.join(distinct)}' has no kernel to choose; leave it out")
    by_name = {}
    for name, own in parts.items():
        chosen = {part: options[part] for part in own if part in options}
        flat = chosen.get(own[0], {}) if len(own) == 1 else chosen
        by_name[name] = {"kernel": kernel if name in takers else None, "options": flat}
    return by_name
