"""Private API of PyTorch: whatever the wing uses of it stands here, with the versions that it and recording were
tested with.

On any other version, or on a build without them, the wing steps aside and says so once: its back ends do not serve
what needs these, others do.
"""

from __future__ import annotations

import ctypes
import logging
from functools import lru_cache
from pathlib import Path

import torch

log = logging.getLogger("extrapo")

#: Versions of PyTorch that all of this was tested with: one is added once the tests of the wing pass with it.
TESTED = ("2.13", "2.14")


@lru_cache(maxsize=1)
def is_tested() -> bool:
    """Whether this PyTorch is one of them; where it is not, that is logged, once."""
    if ".".join(torch.__version__.split(".")[:2]) in TESTED:
        return True
    log.warning(
        "attention on a CPU was made fast with PyTorch %s, not %s: it goes by the plain back ends",
        " and ".join(TESTED),
        torch.__version__,
    )
    return False


#: The products of matrices of a BLAS, by the names that its libraries have in common.
PRODUCTS = {torch.float32: "sgemm_", torch.float64: "dgemm_"}

#: Where PyTorch's own one is linked into, on Linux and on a Mac.
LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib")


@lru_cache
def product(dtype: torch.dtype) -> int | None:
    """Where the product of matrices of PyTorch's own BLAS lies; None, logged once, where it has no such name."""
    folder = Path(torch.__file__).parent / "lib"
    for name in LIBRARIES:
        try:
            function = getattr(ctypes.CDLL(str(folder / name)), PRODUCTS[dtype])
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value
    log.warning(
        "attention on a CPU was made fast with %s of PyTorch's library, which is not there: "
        "it goes by the plain back ends",
        PRODUCTS[dtype],
    )
    return None
