"""The protocols: which windows of a text are shown to the model, and which of their tokens are scored.

base          what a protocol is, and what it is held to
disjoint      windows side by side
position      the same, by how far into its window a target stands
sliding       windows that overlap
ends          the last tokens of windows that end at the same places: last-k, fixed-target
documents     any of these within documents

A new one is a file here that registers it, and an import below; another package announces its own under the entry-point
group `extrapo.protocols`.
"""

from __future__ import annotations

from dataclasses import fields

from extrapo.config.evaluation import CurveSettings
from extrapo.errors import UserError
from extrapo.evaluation.protocols.base import PROTOCOLS, Protocol, ScoredWindow
from extrapo.evaluation.protocols.disjoint import Disjoint
from extrapo.evaluation.protocols.documents import WithinDocuments
from extrapo.evaluation.protocols.ends import FixedTarget, LastK
from extrapo.evaluation.protocols.position import Position
from extrapo.evaluation.protocols.sliding import Sliding

__all__ = [
    "PROTOCOLS",
    "Disjoint",
    "FixedTarget",
    "LastK",
    "Position",
    "Protocol",
    "ScoredWindow",
    "Sliding",
    "WithinDocuments",
    "protocol",
    "protocol_of",
]


def protocol_of(settings: CurveSettings) -> Protocol:
    """The protocol that settings ask for, with its options.

    Raises:
        UserError: there is none of that name, or it has no such option.
    """
    takes = [field.name for field in fields(PROTOCOLS.get(settings.protocol))]
    for setting, option, value in (("stride", "step", settings.stride), ("last", "last", settings.last)):
        if value is not None and option not in takes:
            raise UserError(f"protocol '{settings.protocol}' takes no `{setting}`")
    return protocol(settings.protocol, step=settings.stride, last=settings.last)


def protocol(name: str, **options: int | None) -> Protocol:
    """The protocol called `name`.

    Args:
        name: of PROTOCOLS.
        options: what it takes besides, such as `step` of `sliding` and `last` of `last-k`; None is its default.

    Raises:
        UserError: there is none of that name, or it has no such option.
    """
    chosen, given = PROTOCOLS.get(name), {key: value for key, value in options.items() if value is not None}
    known = [field.name for field in fields(chosen) if field.name != "name"]
    for key in given:
        if key not in known:
            raise UserError(
                f"protocol '{name}' has no option '{key}'" + (f", only {', '.join(known)}" if known else "")
            )
    return chosen(name, **given)
