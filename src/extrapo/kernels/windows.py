"""A window with soft sides: a control beside hard windows (Longformer, 2004.05150), trainable in its width."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.kernels.base import Initial, Kernel, Width, kernels

#: The weight beyond the window: nothing to a softmax (ln of it is -69), and finite, where ln 0 is not.
NOTHING = 1e-30


@kernels.register("triangular-window")
class TriangularWindow(Kernel):
    """phi(z) = ln max(1 - z/w, 0): the weight e^phi falls linearly to 0 at z = w. The 0 is 1e-30.

    Args:
        w: width of the window.
    """

    paper = "-"
    summary = "ln max(1 - z/w, 0); control"
    needs_nonnegative = False
    summable = "always"

    def __init__(self, heads: int | None = None, *, w: Initial = 64.0) -> None:
        super().__init__(heads)
        self.w = Width(w, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        return torch.log((1 - z / values[0]).clamp_min(NOTHING))

    def values(self) -> tuple[Tensor, ...]:
        return (self.w(),)
