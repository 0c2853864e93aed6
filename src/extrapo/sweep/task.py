"""What the process of a trial is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extrapo.location import Location
from extrapo.sweep.slots import Slot

if TYPE_CHECKING:
    from extrapo.run.reporter import Reporter


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
        reporter: makes what takes the run's progress, in the process of the trial.
    """

    spec: dict[str, Any]
    storage: str
    number: int
    location: Location
    slot: Slot
    log: str
    retries: int
    reporter: Callable[[], Reporter]

    @property
    def mark(self) -> str:
        """What the processes of this trial carry in their environment."""
        return f"{self.spec['name']} {self.number}"
