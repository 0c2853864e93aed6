"""OpenMP's threads are let go of, and come back."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from extrapo.attention.cpu.openmp import on_all_threads, pause, release_threads

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


@needs_gnu
def test_a_function_on_several_threads() -> None:
    seen, both = [], threading.Barrier(2, timeout=30)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def function(data: int) -> None:
        both.wait()
        seen.append((data, threading.get_native_id()))

    parallel = on_all_threads()
    assert parallel is not None
    parallel(ctypes.cast(function, ctypes.c_void_p), ctypes.c_void_p(7), 2, 0)
    assert [data for data, _ in seen] == [7, 7]
    assert threading.get_native_id() in {thread for _, thread in seen}
    assert len({thread for _, thread in seen}) == 2


def test_nothing_to_let_go_of_is_no_error() -> None:
    release_threads()
    release_threads()


def test_a_machine_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "RTLD_NOLOAD", raising=False)
    for found in (pause, on_all_threads):
        found.cache_clear()
    try:
        assert pause() is None
        assert on_all_threads() is None
        release_threads()
    finally:
        for found in (pause, on_all_threads):
            found.cache_clear()


def threads(until: int | None = None) -> int:
    """Threads of this process, once they are as many as these or half a minute has passed: an end takes a moment."""
    for _ in range(300):
        found = len(list(Path("/proc/self/task").iterdir()))
        if until in (None, found):
            break
        time.sleep(0.1)
    return found
