"""Private API of PyTorch that recording takes: the tracer, the list of what operations come down to, and two marks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import GraphModule

F = TypeVar("F", bound=Callable[..., Any])


def constant(function: F) -> F:
    """A function that PyTorch's compiler calls while it looks on, of constants, and takes the result of as one.

    `torch.compiler.assume_constant_result` sets the same mark, and loads the compiler for it, a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def uncompiled(function: F) -> F:
    """A function that PyTorch's compiler calls and does not look into: `torch.compiler.disable`, which is loaded at the
    first call and not at once.
    """
    from torch._compile import _disable_dynamo

    return _disable_dynamo(function)  # type: ignore[return-value]


def record(function: Callable[..., Any], *inputs: Tensor) -> GraphModule:
    """The operations of a function on inputs like these, none in place and each of PyTorch's core operators.

    Args:
        function: of tensors.
        inputs: examples.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(functionalize(function), decomposition_table=decompositions())(*inputs)


@lru_cache(maxsize=1)
def decompositions() -> dict[Any, Callable[..., Any]]:
    """What other operations come down to PyTorch's core ones by. A quarter of a second, once."""
    from torch._decomp import core_aten_decompositions

    # A stack of numbers stays one: in parts it would be pairs side by side.
    return {op: way for op, way in dict(core_aten_decompositions()).items() if op is not torch.ops.aten.stack.default}
