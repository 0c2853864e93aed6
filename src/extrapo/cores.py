"""The cores that this process may use: fewer than the machine has, where a scheduler or `taskset` gave it some."""

from __future__ import annotations

import os


def cores() -> int:
    """Their number, as far as the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
