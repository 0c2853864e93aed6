"""What a worker is given. The supervisor reads this file and not the worker's, which loads Lightning."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from extrapo.sweep.slots import Slot

#: What a forked worker needs, loaded once before the first.
PRELOAD = ["extrapo.sweep.worker", "mlflow.tracking", "extrapo.tracking.logger"]


@dataclass(frozen=True)
class Task:
    """What a worker is given.

    Args:
        plan: the sweep, as its YAML says it.
        storage: where the study is.
        number: the claimed trial.
        root, tracking_uri: where runs are recorded.
        slot: what it may use.
        log: file that takes what it prints.
        retries: see Queue.
    """

    plan: dict[str, Any]
    storage: str
    number: int
    root: str
    tracking_uri: str | None
    slot: Slot
    log: str
    retries: int

    @property
    def mark(self) -> str:
        """What the processes of this trial carry in their environment."""
        return f"{self.plan['name']} {self.number}"


def start(task: Task, wire: Connection) -> None:
    """The life of a worker process."""
    from extrapo.sweep.worker import live

    live(task, wire)
