"""Compiled functions on disk, found by what they compute: a process waits for no compiler where another one did.

They lie in the folder where PyTorch's compiler has its own cache ($TORCHINDUCTOR_CACHE_DIR, else one of this user's in
the system's temporary folder), and are as trusted as what is there: code that is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from extrapo.attention.cpu import fast_math
from extrapo.attention.cpu.private import OPTIONS, CompiledFunction, cache_folder, load_compiled, record


def load_or_compile(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], compile_it: Callable[[], CompiledFunction]
) -> CompiledFunction:
    """A function from disk; compiled and stored where it is not there, by one process at a time.

    Args:
        function: of tensors; what it computes is what it is known by.
        inputs: examples, each size of its own.
        compile_it: compiles the function.
    """
    folder = cache_folder() / "extrapo"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{digest(function, inputs)}.bin"
    with FileLock(file.with_suffix(".lock")):
        if file.exists():
            try:
                return load_compiled(file)
            except Exception:
                # Cut short, or of another build of PyTorch under the same version: made anew, and overwritten.
                pass
        made = compile_it()
        made.save(path=str(file))
        return made


def digest(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> str:
    """Of the operations of a function on these inputs, with their constants, and of all else that a compiler reads."""
    # Without the function's annotations, which the recorder would look up.
    graph = record(lambda *x: function(*x), *inputs)
    identity = [
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        repr(sorted(OPTIONS.items())),
        Path(fast_math.__file__).read_text(encoding="utf-8"),
        repr([(x.shape, x.stride(), x.dtype) for x in inputs]),
        graph.code,
        *(f"{name} {value.dtype} {value.tolist()}" for name, value in graph.named_buffers()),
    ]
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()
