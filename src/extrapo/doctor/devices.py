"""What PyTorch can compute on here, and which compilers are at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import torch

from extrapo.doctor.check import Check


def checks() -> Iterator[Check]:
    """Devices, then compilers."""
    yield Check("device", "cpu", "ok", f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            half = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
            detail = f"{card.name}, compute capability {card.major}.{card.minor}, {half}, CUDA {torch.version.cuda}"
            yield Check("device", f"cuda:{number}", "ok", detail, card.total_memory)
    else:
        built = "this PyTorch is built without CUDA" if torch.version.cuda is None else "no card answers its driver"
        yield Check("device", "cuda", "absent", built)
    yield compiler()


def compiler() -> Check:
    """The C++ compiler that the fast path on a CPU needs; whether it works, its back end says."""
    if os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1":
        return Check("compiler", "c++", "note", "switched off by TORCH_COMPILE_DISABLE=1")
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        if name and (path := shutil.which(name)):
            return Check("compiler", "c++", "ok", path)
    return Check("compiler", "c++", "absent", "no C++ compiler: attention on a CPU goes by PyTorch's own operations")
