"""Names for compositions that a paper, or its code, treats as one scheme: `path-fox` is `path+fox`, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extrapo.encodings.base import Paper


@dataclass(frozen=True)
class Named:
    """A composition with a name of its own.

    Args:
        parts: what it is made of, joined by `+`.
        paper: its line of the catalogue.
        options: the parts' options, by part, where they differ from the parts' own defaults.
    """

    parts: str
    paper: Paper
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


#: name -> composition.
NAMED: dict[str, Named] = {}
