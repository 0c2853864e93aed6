"""OpenMP's threads: after an operation they wait for the next in a loop that fills a core, for some ten milliseconds.

Threads of our own would share their cores with them for that long. GNU's library, PyTorch's on Linux, lets go of them
on request (OpenMP 5.0, `omp_pause_resource_all`) and starts others when they are needed, in less than a millisecond.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache

#: `omp_pause_soft`: what OpenMP keeps for its threads stays.
SOFT = 1


@lru_cache(maxsize=1)
def pause() -> Callable[[int], int] | None:
    """The function of the library that is loaded; None where that is another one, or one before OpenMP 5.0."""
    try:
        # By its name alone, and only if it is there: a second copy would have threads of its own.
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
        return library.omp_pause_resource_all
    except (OSError, AttributeError):
        return None


def release_threads() -> None:
    """End the waiting threads of the calling thread's operations, where that can be done."""
    if (function := pause()) is not None:
        function(SOFT)
