"""Private API of PyTorch: whatever the wing uses of it stands here, with the versions it was tested with.

On any other version the wing steps aside and says so once: its back ends do not serve what needs these, others do.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule

log = logging.getLogger("extrapo")

#: Versions of PyTorch that all of this was tested with: one is added once the tests of the wing pass with it.
TESTED = ("2.13",)


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


# -- the fused attention of a CPU ------------------------------------------------------------------------------------

# PyTorch's public function refuses a mask beside its flag for causality; the operators below it take both.


def fused_attention(q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Causal softmax(s q.k + b) v.

    Args:
        q, k, v: (B, H, T, d), of one width, its numbers side by side in memory.
        key_bias: (B, H, 1, T) b, a number of each key, float32 at least; None for 0.
        scale: s.

    Returns:
        The output (B, H, T, d), and each row's log-sum-exp (B, H, T).
    """
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return operator(q, k, v, 0.0, True, attn_mask=key_bias, scale=scale)  # type: ignore[no-any-return]


def fused_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, key_bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v; none of the bias."""
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return operator(grad, q, k, v, out, lse, 0.0, True, attn_mask=key_bias, scale=scale)  # type: ignore[no-any-return]


# -- recording and compiling -----------------------------------------------------------------------------------------

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


class CompiledFunction(Protocol):
    """What the compiler makes of a function of tensors."""

    def __call__(self, *inputs: Tensor) -> Any:
        """What the function gives, as a sequence."""

    def save(self, *, path: str) -> None:
        """Write it to a file."""


def record(
    function: Callable[..., Any],
    *inputs: Tensor,
    symbolic: bool = False,
    decompositions: Mapping[Any, Callable[..., Any]] | None = None,
) -> GraphModule:
    """The operations of a function on these inputs.

    Args:
        function: of tensors.
        inputs: examples.
        symbolic: for any sizes; a tenth of the time where only these count.
        decompositions: what operators are made of.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    mode = "symbolic" if symbolic else "real"
    return make_fx(function, tracing_mode=mode, decomposition_table=decompositions)(*inputs)  # type: ignore[arg-type]


def compile_graph(graph: GraphModule) -> CompiledFunction:
    """A graph that was recorded for any sizes, as machine code."""
    import torch._inductor

    sizes = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    return torch._inductor.standalone_compile(graph, sizes, options={"config_patches": OPTIONS}, aot=True)


def load_compiled(path: Path) -> CompiledFunction:
    """What was saved there; where its library is not in the compiler's cache it is built again."""
    import torch._inductor.config
    from torch._inductor.standalone_compile import CompiledArtifact

    with torch._inductor.config.patch(OPTIONS):
        return CompiledArtifact.load(path=str(path))


def cache_folder() -> Path:
    """Where PyTorch's compiler has its cache."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir())


def finds_cpp_compiler() -> bool:
    """Whether PyTorch finds a C++ compiler that it can call."""
    # It does not quote its own folder where it calls the compiler.
    if " " in torch.__file__:
        return False
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return bool(get_cpp_compiler())
    except Exception:
        return False
