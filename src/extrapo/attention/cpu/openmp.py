"""OpenMP's threads: after an operation they wait for the next in a loop that fills a core, for some ten milliseconds.

What is as short as an operation of PyTorch's is done by them, through the function that GNU's compilers call. Threads
of our own would share their cores with them for that long: GNU's library, PyTorch's on Linux, lets go of them on
request (OpenMP 5.0, `omp_pause_resource_all`) and starts others when they are needed, in less than a millisecond.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

#: void GOMP_parallel(function, data, threads, flags): what GNU's compilers call at the beginning of a parallel part.
PARALLEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)

#: `omp_pause_soft`: what OpenMP keeps for its threads stays.
SOFT = 1


def library() -> ctypes.CDLL | None:
    """The one that is loaded; None where that is another one."""
    try:
        # By its name alone, and only if it is there: a second copy would have threads of its own.
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    except (OSError, AttributeError):
        return None


@lru_cache(maxsize=1)
def pause() -> Callable[[int], int] | None:
    """Its function; None in one before OpenMP 5.0."""
    return getattr(library(), "omp_pause_resource_all", None)


@lru_cache(maxsize=1)
def on_all_threads() -> Callable[[Any, Any, int, int], None] | None:
    """(function, data, threads, 0): calls function(data) on so many of the threads of PyTorch's operations, and waits;
    None where no library of GNU's is loaded.
    """
    found = getattr(library(), "GOMP_parallel", None)
    return None if found is None else PARALLEL(ctypes.cast(found, ctypes.c_void_p).value or 0)


def release_threads() -> None:
    """End the waiting threads of the calling thread's operations, where that can be done."""
    if (function := pause()) is not None:
        function(SOFT)
