"""The machine that figures belong to, and how much of it others took while they were measured."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from extrapo.cores import cores

#: Cores that others may take before it is worth a warning.
DISTURBED = 0.15


def this_machine() -> dict[str, Any]:
    """`processor`, `cores` that this process may use, `vectors` that torch uses, `torch`, `threads`."""
    return {
        "processor": processor(),
        "cores": cores(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """Its name; what the system calls its kind where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def load_average() -> float | None:
    """Of the last minute, over all cores; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


class Load:
    """What others do on the machine while something is timed."""

    def __init__(self) -> None:
        self.before = load_average()
        self.seconds = 0.0
        self._taken: float | None = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What runs meanwhile counts; processes that this one starts meanwhile are others."""
        began, others = time.perf_counter(), others_seconds()
        yield
        self.seconds += time.perf_counter() - began
        after = others_seconds()
        if self._taken is not None:
            self._taken = None if others is None or after is None else self._taken + after - others

    @property
    def others(self) -> float | None:
        """Cores that others kept busy, on average; None where the system does not say."""
        return None if self._taken is None or not self.seconds else max(0.0, self._taken / self.seconds)

    def row(self) -> dict[str, Any]:
        """`load_before` and `load_after`, averages of a minute, and `others`, in cores."""
        return {"load_before": self.before, "load_after": load_average(), "others": self.others}

    def warning(self) -> str | None:
        """A line for people, where others disturbed."""
        if self.others is None or self.others < DISTURBED:
            return None
        return f"warning: others kept {self.others:.1f} cores busy meanwhile: seconds say little, ratios are less exact"


def others_seconds() -> float | None:
    """Seconds that all cores were busy with anything but this process; None where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    # user nice system idle iowait irq softirq steal: what the host took for other machines is taken as well.
    user, nice, system, _, _, *rest = (int(field) for field in fields[:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK") - time.process_time()
