"""The weights of one model in another, whose encoding is not the same: by layer, part of the encoding, and name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from extrapo import encodings
from extrapo.encodings.per_layer import layer_names
from extrapo.gpt import GPT

IN_A_LAYER = re.compile(r"blocks\.(?P<layer>\d+)\.attention\.encodings\.(?P<phase>\d+)\.(?P<rest>.+)")
BELOW_THE_LAYERS = re.compile(r"(?P<kind>positions|sources)\.(?P<phase>\d+)\.(?P<rest>.+)")
#: The step in which a part brings what lies there.
STEP = {"positions": "embedding", "sources": "source"}
#: Names that a line lists before it counts the rest.
LISTED = 6


class Place(NamedTuple):
    """Where a weight belongs, whatever else its encoding is composed with.

    Args:
        where: `blocks.3`, `positions`; empty for what is no encoding's.
        part: of the encoding; empty for what is no encoding's.
        name: within the part, or in the model.
    """

    where: str
    part: str
    name: str

    def __str__(self) -> str:
        return f"{self.part}'s {self.name}" if self.part else re.sub(r"blocks\.\d+\.", "", self.name)


@dataclass(frozen=True)
class Match:
    """What of one model has its place in another.

    Args:
        taken: weights by their names in the other.
        new: trainable weights of the other that the first has none for, or none of that shape.
        left_out: trained weights of the first that have no place.
    """

    taken: Mapping[str, Tensor]
    new: Sequence[Place]
    left_out: Sequence[Place]

    @property
    def numbers(self) -> int:
        """How many numbers are taken; tied and shared weights count once."""
        return sum({tensor.data_ptr(): tensor.numel() for tensor in self.taken.values()}.values())


def encoding_in_force(gpt: GPT) -> str:
    """The name of a model's encoding, after its swap that of the second one."""
    config = gpt.config
    return config.swap_to if gpt.phase and config.swap_to is not None else config.encoding


def places(gpt: GPT) -> dict[Place, str]:
    """The names in the state dict of the weights that are in force."""
    names = layer_names(encoding_in_force(gpt), gpt.config.layers)
    parts = [encodings.split(name) for name in names]
    found: dict[Place, str] = {}
    for key in gpt.state_dict():
        layer, below = IN_A_LAYER.fullmatch(key), BELOW_THE_LAYERS.fullmatch(key)
        if layer is not None:
            if int(layer["phase"]) != gpt.phase:
                continue
            own, rest = parts[int(layer["layer"])], layer["rest"]
            part, name = (own[0], rest) if len(own) == 1 else rest.removeprefix("parts.").split(".", 1)
            found[Place(f"blocks.{layer['layer']}", part, name)] = key
        elif below is not None:
            if int(below["phase"]) != gpt.phase:
                continue
            step = STEP[below["kind"]]
            owners = dict.fromkeys(one for own in parts for one in own if step in encodings.get(one).own_steps)
            found[Place(below["kind"], "+".join(owners), below["rest"])] = key
        elif key != "swapped":
            found[Place("", "", key)] = key
    return found


def match(old: GPT, new: GPT) -> Match:
    """What of the weights of `old` has its place in `new`.

    What is no parameter of `new`, such as slopes that are not trained, follows from its options and stays.
    """
    weights = old.state_dict()
    there, here = places(old), places(new)
    trained, trainable = parameters(old), parameters(new)
    taken: dict[str, Tensor] = {}
    lacking: list[Place] = []
    for place, key in here.items():
        if key not in trainable:
            continue
        found = weights.get(there.get(place, ""))
        if found is None or found.shape != trainable[key].shape:
            lacking.append(place)
        else:
            taken[key] = found
    used = {place for place, key in here.items() if key in taken}
    return Match(taken, lacking, [place for place, key in there.items() if key in trained and place not in used])


def parameters(gpt: GPT) -> dict[str, Tensor]:
    """The trainable weights by each of their names in the state dict."""
    return {name: one for name, one in gpt.named_parameters(remove_duplicate=False) if one.requires_grad}


@torch.no_grad()
def put(found: Match, gpt: GPT) -> None:
    """Copy what was taken into the model that it was taken for."""
    targets = parameters(gpt)
    for name, tensor in found.taken.items():
        targets[name].copy_(tensor)


def listed(some: Iterable[Place]) -> str:
    """Weights for people: those of all layers once, a few by name."""
    names = list(dict.fromkeys(map(str, some)))
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*names[:LISTED], *more])
