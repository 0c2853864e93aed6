"""OpenMP's threads are let go of, and come back."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import torch

from extrapo.attention.cpu.openmp import pause, release_threads

needs_gnu = pytest.mark.skipif(
    sys.platform != "linux" or pause() is None or "OpenMP" not in torch.__config__.parallel_info(),
    reason="GNU's OpenMP is not what PyTorch computes with here",
)


@needs_gnu
def test_the_threads_end_and_others_start() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    x = torch.ones(1000, 1000)
    try:
        expected = (x + x).sum()
        with_them = threads()
        release_threads()
        without = threads(until=with_them - 2)
        assert without == with_them - 2
        assert (x + x).sum() == expected
        assert threads() == with_them
    finally:
        torch.set_num_threads(before)


def test_nothing_to_let_go_of_is_no_error() -> None:
    release_threads()
    release_threads()


def test_a_machine_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "RTLD_NOLOAD", raising=False)
    pause.cache_clear()
    try:
        assert pause() is None
        release_threads()
    finally:
        pause.cache_clear()


def threads(until: int | None = None) -> int:
    """Threads of this process, once they are as many as these or half a minute has passed: an end takes a moment."""
    for _ in range(300):
        found = len(list(Path("/proc/self/task").iterdir()))
        if until in (None, found):
            break
        time.sleep(0.1)
    return found
