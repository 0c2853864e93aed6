"""Compiling: functions of tensors as loops in C++, for tiles of any size, where that pays.

It takes ten to twenty seconds, and the result stays on disk. Nothing is compiled where there is no C++ compiler, on a
version of PyTorch that this was not tested with, or with PyTorch's own switch TORCH_COMPILE_DISABLE=1 in the
environment.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.backend import compile_forced
from extrapo.attention.cpu.compile_cache import load_or_compile
from extrapo.attention.cpu.fast_math import DECOMPOSITIONS
from extrapo.attention.cpu.private import CompiledFunction, compile_graph, finds_cpp_compiler, is_tested, record

log = logging.getLogger("extrapo")

#: Logits of an attention, B x H x T x S, from which compiling pays in a run of some minutes.
MIN_LOGITS = 2**21

_lock = threading.Lock()


def should_compile(logits: int) -> bool:
    """Whether an attention of so many logits is to be compiled here, if its formula can be."""
    return (compile_forced() or logits >= MIN_LOGITS) and has_compiler()


@lru_cache(maxsize=1)
def has_compiler() -> bool:
    """Whether a C++ compiler is found, and compiling is not switched off."""
    return os.environ.get("TORCH_COMPILE_DISABLE", "0") != "1" and is_tested() and finds_cpp_compiler()


def compile_function(function: Callable[..., Any], *inputs: Tensor) -> CompiledFunction | None:
    """A function of contiguous tensors as C++ that runs on one thread, for any sizes of the dimensions that are not 1.

    None where that fails, which is logged: what is compiled is whatever somebody wrote.
    """

    def compile_it() -> CompiledFunction:
        # Without the function's annotations: a graph that has them is not found again on disk.
        graph = record(lambda *x: function(*x), *inputs, symbolic=True, decompositions=DECOMPOSITIONS)
        return compile_graph(graph)

    try:
        with _lock, torch.inference_mode(False), torch.no_grad():
            return load_or_compile(function, inputs, compile_it)
    except Exception as cause:
        log.warning("a formula cannot be compiled, it is computed step by step: %s", str(cause).split("\n")[0])
        return None
