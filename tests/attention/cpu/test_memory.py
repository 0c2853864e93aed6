"""What an attention frees is there for the next: no page of it is asked for again."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from extrapo.attention.cpu.memory import keep_freed_memory

PAGES = 2**24 // resource.getpagesize()


def faults() -> int:
    """Pages that the system gives to 16 MiB that are written and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which this does not concern")
def test_a_freed_block_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory.cache_clear()
    keep_freed_memory()
    first, second = faults(), faults()
    assert first <= 1.1 * PAGES
    assert second < PAGES / 10


def test_it_is_done_once() -> None:
    keep_freed_memory.cache_clear()
    for _ in range(3):
        keep_freed_memory()
    assert keep_freed_memory.cache_info().misses == 1
