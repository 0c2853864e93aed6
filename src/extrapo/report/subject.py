"""Runs that differ in their seed alone, as a report speaks of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from extrapo.tracking import RecordedRun


@dataclass(frozen=True)
class Subject:
    """A group of runs with its mean curve.

    Args:
        name: what tells it from the others.
        runs: at least one, by seed.
        curve: see `evaluation.comparison.over_seeds`.
    """

    name: str
    runs: Sequence[RecordedRun]
    curve: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def slug(self) -> str:
        """The name as one of a file."""
        return re.sub(r"[^\w.]+", "-", self.name).strip("-")[:80]
