"""The protocols: which windows of a text are shown to the model, and which of their tokens are scored.

base          what a protocol is, and what it is held to
disjoint      windows side by side

A new one is a file here that registers it, and an import below; another package announces its own under the entry-point
group `extrapo.protocols`.
"""

from __future__ import annotations

from extrapo.evaluation.protocols.base import PROTOCOLS, Protocol, ScoredWindow
from extrapo.evaluation.protocols.disjoint import Disjoint

__all__ = ["PROTOCOLS", "Disjoint", "Protocol", "ScoredWindow", "protocol"]


def protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        UserError: there is none of that name.
    """
    return PROTOCOLS.get(name)(name)
