"""How far a sweep is, in words: its slots, its cells, how a trial ended. Who shows it is not known here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from extrapo.sweep.queue import ERROR, state
from extrapo.sweep.spec import Cell, SweepSpec
from extrapo.sweep.text import format_cell, format_duration, format_mean

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

#: The columns of a slot's row.
COLUMNS = ("slot", "device", "trial", "cell", "step", "time")


@dataclass
class SlotProgress:
    """What a slot is doing.

    Args:
        device: where.
        trial: the trial's number; None while it is free.
        cell: what the trial tries.
        step, steps: how far it is.
        since: when it began, by the monotonic clock.
    """

    device: str
    trial: int | None = None
    cell: str = ""
    step: int = 0
    steps: int = 0
    since: float = 0.0

    def row(self, number: int) -> tuple[str, ...]:
        """A text for each of COLUMNS."""
        if self.trial is None:
            return (str(number), self.device, "-", "free", "", "")
        step = f"{self.step}/{self.steps}" if self.steps else "starting"
        took = format_duration(time.monotonic() - self.since)
        return (str(number), self.device, str(self.trial), self.cell, step, took)


@dataclass
class SweepProgress:
    """What a sweep has come to.

    Args:
        name: the study.
        slots: those of this machine.
        total: cells.
        counts: cells by state.
        best: the best so far, in a line.
        seconds_left: an estimate; None before the first trial has ended.
    """

    name: str
    slots: list[SlotProgress]
    total: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    best: str = ""
    seconds_left: float | None = None

    @property
    def done(self) -> int:
        """Cells that need no more work."""
        return sum(self.counts.get(state, 0) for state in ("complete", "pruned", "failed"))

    def headline(self) -> str:
        """How far, how well, how long."""
        parts = [f"{self.name}: {self.done}/{self.total} done"]
        parts += [f"{self.counts[state]} {state}" for state in ("pruned", "failed") if self.counts.get(state)]
        elsewhere = self.counts.get("running", 0) - sum(slot.trial is not None for slot in self.slots)
        parts += [f"{elsewhere} running elsewhere"] if elsewhere > 0 else []
        parts += [f"best {self.best}"] if self.best else []
        parts += [f"about {format_duration(self.seconds_left)} left"] if self.seconds_left else []
        return ", ".join(parts)


class Display(AbstractContextManager[Any], Protocol):
    """Shows the progress of a sweep while the block runs."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def ended(self, line: str) -> None:
        """A trial has ended, as the line says."""


#: Makes the display of a progress that changes while it is shown.
MakeDisplay: TypeAlias = Callable[[SweepProgress], Display]


def best_line(spec: SweepSpec, trials: Sequence[FrozenTrial]) -> str:
    """The best value of the first objective so far, and where."""
    complete = [trial for trial in trials if state(trial) == "complete"]
    if not complete:
        return ""
    choose = max if spec.objectives[0].direction == "maximize" else min
    best = choose(complete, key=lambda trial: trial.values[0])
    return f"{spec.objective[0]} {format_mean(best.values[0])} ({format_cell(best.params)})"


def outcome_line(spec: SweepSpec, trial: FrozenTrial, cell: Cell, end: str, why: str) -> str:
    """How a trial of a cell ended, in a line."""
    head = f"trial {trial.number} ({format_cell(cell)})" if cell else f"trial {trial.number}"
    if end == "complete":
        values = zip(spec.objective, trial.values, strict=True)
        return f"{head}: {', '.join(f'{name} {format_mean(value)}' for name, value in values)}"
    words = {
        "pruned": f"pruned at step {trial.last_step}",
        "failed": f"failed: {why or trial.user_attrs.get(ERROR, '')}",
        "returned": f"back in the queue{': ' + why if why else ''}",
        "killed": "was killed; back in the queue, to go on at its checkpoint",
        "lost": "was taken over by another worker",
        "machine": f"stopped: {why}",
    }
    return f"{head}: {words[end]}"
