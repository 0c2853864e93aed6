"""Compiling: functions of tensors as loops in C++, for tiles of any size, where that pays.

It takes ten to twenty seconds, and the result stays on disk. Nothing is compiled where there is no C++ compiler, on a
GPU, or with PyTorch's own switch TORCH_COMPILE_DISABLE=1 in the environment.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from extrapo.attention.cpu.compile_cache import artifact
from extrapo.attention.cpu.fast_math import DECOMPOSITIONS

log = logging.getLogger("extrapo")

#: Logits of an attention, B x H x T x S, from which compiling pays in a run of some minutes.
WORTHWHILE = 2**21

#: The C++ wrapper lets other threads run meanwhile; each of them works on a tile of its own. A product and a sum are
#: one instruction, with one rounding: a polynomial takes half the time. No program is compiled only to see whether the
#: compiler knows an x86 processor's vectors: each does, and one that did not would be reported by the formula.
OPTIONS = {
    "cpp_wrapper": True,
    "cpp.threads": 1,
    "cpp.vec_isa_ok": platform.machine() in ("x86_64", "AMD64") or None,
    "cpp.enable_floating_point_contract_flag": "fast",
    "compile_threads": 1,
    "cpp_cache_precompile_headers": False,
}

_lock = threading.Lock()


def worthwhile(device: torch.device, logits: int) -> bool:
    """Whether an attention of so many logits is to be compiled here, if its formula can be."""
    return device.type == "cpu" and logits >= WORTHWHILE and has_compiler()


@contextmanager
def however_short() -> Iterator[None]:
    """Here every formula is compiled that can be: what warms up on a short text finds its loops on a long one."""
    global WORTHWHILE
    before, WORTHWHILE = WORTHWHILE, 0
    try:
        yield
    finally:
        WORTHWHILE = before


@lru_cache(maxsize=1)
def has_compiler() -> bool:
    """Whether a C++ compiler is found, and compiling is not switched off."""
    if os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1":
        return False
    # PyTorch does not quote its own folder where it calls the compiler.
    if " " in torch.__file__:
        return False
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return bool(get_cpp_compiler())
    except Exception:
        return False


def compiled(function: Callable[..., Any], *inputs: Tensor) -> Callable[..., Any] | None:
    """A function of contiguous tensors as C++ that runs on one thread, for any sizes of the dimensions that are not 1.

    None where that fails, which is said: what is compiled is whatever somebody wrote.
    """
    import torch._inductor

    def make() -> Any:
        # Without the function's annotations: a graph that has them is not found again on disk.
        trace = make_fx(lambda *x: function(*x), tracing_mode="symbolic", decomposition_table=DECOMPOSITIONS)
        graph = trace(*inputs)
        sizes = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
        return torch._inductor.standalone_compile(graph, sizes, options={"config_patches": OPTIONS}, aot=True)

    try:
        with _lock, torch.inference_mode(False), torch.no_grad():
            return artifact(function, inputs, OPTIONS, make)  # type: ignore[no-any-return]
    except Exception as cause:
        log.warning("a formula cannot be compiled, it is computed step by step: %s", str(cause).split("\n")[0])
        return None
