"""Private API of PyTorch that recording takes: the tracer, and the list of what operations come down to."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import GraphModule


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
