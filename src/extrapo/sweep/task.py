"""What the process of a trial is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from extrapo.location import Location
from extrapo.sweep.slots import Slot


@dataclass(frozen=True)
class Task:
    """What a worker is given.

    Args:
        spec: the sweep, as its YAML says it.
        storage: where the study is.
        number: the claimed trial.
        location: where runs are recorded.
        slot: what it may use.
        log: file that takes what it prints.
        retries: see Queue.
    """

    spec: dict[str, Any]
    storage: str
    number: int
    location: Location
    slot: Slot
    log: str
    retries: int

    @property
    def mark(self) -> str:
        """What the processes of this trial carry in their environment."""
        return f"{self.spec['name']} {self.number}"
