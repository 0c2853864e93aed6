"""What an attention frees is there for the next: no page of it is asked for again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from extrapo.attention.cpu.memory import keep_freed_memory

#: Of 4 x 8 MiB that are written and freed, how much is new to the process, four times over.
CODE = """
import resource
import torch
from extrapo.attention.cpu.memory import keep_freed_memory

torch.set_num_threads(1)
if {keep}:
    keep_freed_memory()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    together = [torch.ones(2**21) for _ in range(4)]
    del together
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**25)
"""


def faults(*, keep: bool) -> list[float]:
    """In a process without a history."""
    command = [sys.executable, "-c", CODE.format(keep=keep)]
    return [float(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which this does not concern")
def test_freed_blocks_are_kept_from_the_first() -> None:
    """By themselves the first ones go back to the system; whether later ones do depends on what else lies there."""
    # The system may take a page at any time: not every time.
    assert min(faults(keep=True)[1:]) < 0.5
    assert max(faults(keep=False)[1:]) > 0.5


def test_it_is_done_once() -> None:
    keep_freed_memory.cache_clear()
    for _ in range(3):
        keep_freed_memory()
    assert keep_freed_memory.cache_info().misses == 1
