"""One finding about this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: `ok`; `absent`, which is no fault; `note`, which may be one; `broken`, which is.
Status = Literal["ok", "absent", "note", "broken"]


@dataclass(frozen=True)
class Check:
    """What was looked at, and what came out.

    Args:
        group: the kind of thing, as `back end`.
        name: the thing.
        status: how it is.
        detail: why, in one line.
        bytes: what it takes on disk or of memory, where it does.
    """

    group: str
    name: str
    status: Status
    detail: str
    bytes: int | None = None

    def row(self) -> dict[str, Any]:
        """Its fields, for a JSON document."""
        return asdict(self)
