"""Measured times on disk, beside the compiled code: what one process has measured, others and later ones take.

A file of JSON, {attention: {back end: seconds}}, in which an attention is a line of text: its form, its shape, and the
processor. It is read and written under a lock, so that processes that start together measure once, and agree.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock

from extrapo.attention import fold
from extrapo.attention.cpu.private import cache_folder
from extrapo.files import write_text

log = logging.getLogger("extrapo")

Seconds = dict[str, float]

#: What /proc/cpuinfo says of a processor that makes it another one.
NAMES = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "CPU implementer", "CPU part")


def load_or_measure(attention: str, measure: Callable[[], Seconds], folder: Path | None = None) -> Seconds:
    """Seconds of each back end from disk; measured and stored where they are not there, by one process at a time.

    An interrupted measurement leaves the file as it was. Where the disk refuses, they are measured all the same.

    Args:
        attention: what was measured, and where.
        measure: measures it.
        folder: of the file; None for that of compiled code.
    """
    folder = folder or cache_folder() / "extrapo"
    file = folder / "measured.json"
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / "measured.lock"))
            known = read(file)
        except OSError as cause:
            log.warning("measured times cannot be kept, each process measures anew: %s", cause)
            return measure()
        if attention not in known:
            known[attention] = measure()
            try:
                write_text(file, json.dumps(known, indent=1, sort_keys=True) + "\n")
            except OSError as cause:
                log.warning("measured times cannot be kept, the next process measures anew: %s", cause)
        return known[attention]


def read(file: Path) -> dict[str, Seconds]:
    """What the file holds, without what is no time; nothing where there is no file, or something else in it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {attention: times for attention, times in found.items() if are_times(times)}


def are_times(found: object) -> bool:
    """Whether they are seconds by name."""
    return isinstance(found, dict) and bool(found) and all(isinstance(x, float) and x > 0 for x in found.values())


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor, PyTorch, and the code that is measured: with another one of them all is measured anew."""
    return f"{processor()}, torch {torch.__version__}, code {code()}"


def processor() -> str:
    """What the system says of the processor."""
    found = {"vectors": torch.backends.cpu.get_cpu_capability(), "cores": str(os.cpu_count())}
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        found |= {name.strip(): value.strip() for name, _, value in pairs if name.strip() in NAMES}
    except OSError:
        found["model name"] = f"{platform.machine()} {platform.processor()}"
    return ", ".join(f"{name} {value}" for name, value in sorted(found.items()))


def code() -> str:
    """Of the files of the wing, and of the portable fold."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(fold.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
