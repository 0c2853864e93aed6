"""Compiled functions on disk, found by what they compute: a process waits for no compiler where another one did.

They lie in the folder where PyTorch's compiler has its own cache ($TORCHINDUCTOR_CACHE_DIR, else one of this user's in
the system's temporary folder), and are as trusted as what is there: code that is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from extrapo.attention import elementary


def artifact(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], options: Mapping[str, Any], make: Callable[[], Any]
) -> Any:
    """What `make` once made of a function, from disk; made and stored where it is not there, by one process at a time.

    Args:
        function: of tensors; what it computes is what it is known by.
        inputs: examples, each size of its own.
        options: of the compiler.
        make: compiles; returns a `torch._inductor.CompiledArtifact`.
    """
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    from torch._inductor.standalone_compile import CompiledArtifact

    folder = Path(cache_dir(), "extrapo")
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{digest(function, inputs, options)}.bin"
    with FileLock(place.with_suffix(".lock")):
        if place.exists():
            try:
                # Where its library is not in the cache it is built again, with the options of the moment.
                with torch._inductor.config.patch(dict(options)):
                    return CompiledArtifact.load(path=str(place))
            except Exception:
                # Cut short, or of another build of PyTorch under the same version: made anew, and overwritten.
                pass
        found = make()
        found.save(path=str(place))
        return found


def digest(function: Callable[..., Any], inputs: tuple[Tensor, ...], options: Mapping[str, Any]) -> str:
    """Of the operations of a function on these inputs with their constants, and of all else that a compiler looks at.

    The operations are recorded with plain sizes: a tenth of the time that it takes to record them for any size.
    """
    # Without the function's annotations, which the recorder would look up.
    graph = make_fx(lambda *x: function(*x))(*inputs)
    told = [
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        repr(sorted(options.items())),
        Path(elementary.__file__).read_text(encoding="utf-8"),
        repr([(x.shape, x.stride(), x.dtype) for x in inputs]),
        graph.code,
        *(f"{name} {value.dtype} {value.tolist()}" for name, value in graph.named_buffers()),
    ]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
