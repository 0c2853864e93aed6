"""A network of the log distance: the dynamic position bias of x-transformers (lucidrains/x-transformers)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.errors import UserError
from extrapo.kernels.base import Free, Kernel, kernels


@kernels.register("mlp-log")
class MLPLog(Kernel):
    """phi(z) = v_h . MLP(ln(1 + z)): SiLU layers that all heads share, an output per head.

    The output has no bias: a constant per head cancels in the softmax. phi(0) is not 0. Every distance passes through
    the network on its own: on contextual distances that is some hundred times the work of `log`.

    Args:
        width: hidden units n; x-transformers has a quarter of the model's width.
        depth: hidden layers.
    """

    paper = "x-transformers"
    summary = "MLP(ln(1 + z)), SiLU"
    monotone = False
    summable = "its slope in ln z ends below -1"

    def __init__(self, heads: int | None = None, *, width: int = 32, depth: int = 2) -> None:
        super().__init__(heads)
        if width < 1 or depth < 1:
            raise UserError(f"mlp-log needs a width and a depth of at least 1, not {width} and {depth}")
        self.hidden = nn.ModuleList(nn.Linear(width if layer else 1, width) for layer in range(depth))
        shape = (width,) if heads is None else (heads, 1, 1, width)
        # Uniform, as torch draws the weights of a linear map.
        self.output = Free(torch.empty(shape).uniform_(-1, 1) / math.sqrt(width))

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        *hidden, output = values
        # Autocast would compute the linear maps in half precision.
        with torch.autocast(z.device.type, enabled=False):
            x = torch.log1p(z).unsqueeze(-1)
            for weight, bias in zip(hidden[0::2], hidden[1::2], strict=True):
                x = F.silu(F.linear(x, weight, bias))
            return (x * output).sum(-1)

    def values(self) -> tuple[Tensor, ...]:
        return (*self.hidden.parameters(), self.output())
