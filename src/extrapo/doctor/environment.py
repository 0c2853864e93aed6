"""Python, the processor, its cores and its memory."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from extrapo import __version__
from extrapo.bench.machine import processor, this_machine
from extrapo.doctor.check import Check

#: Below this a preparation of text or a run of any size fills the disk.
LITTLE = 2**30


def checks() -> Iterator[Check]:
    """One line each."""
    machine = this_machine()
    yield Check("environment", "extrapo", "ok", __version__)
    yield Check("environment", "python", "ok", f"{platform.python_version()} on {platform.system()}")
    cores, vectors = machine["cores"], machine["vectors"]
    yield Check("environment", "processor", "ok", f"{processor()}, {cores} cores for this process, {vectors}")
    memory = psutil.virtual_memory()
    yield Check("environment", "memory", "ok", f"{memory.available / 2**30:.1f} GiB free", memory.total)
    free = shutil.disk_usage(Path.cwd()).free
    yield Check(
        "environment", "disk", "ok" if free > LITTLE else "note", f"{free / 2**30:.1f} GiB free in this folder", free
    )
