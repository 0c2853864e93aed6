"""Distances that the tokens themselves measure, as in Cable (2503.08067), FoX (2503.02130) and GRAPE (2512.07805).

    b_ij = phi(G_i (S_i - S_j)),     S_t = sum over s <= t of f(w_h . x_s + c_h)      one clock for all queries
    b_ij = m_h * sum over l of ln sigma(r_i . e_l)                                    a clock for every query

Named schemes choose the pieces; the sum of the second form runs over the tokens between key and query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import AddedBias, Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import DistanceBias, Order, distance_bias
from extrapo.encodings.core.encoding import Encoding
from extrapo.encodings.core.positions import ContextualPositions, HeadProjection, Input, both_per_head
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visibility import hidden
from extrapo.kernels import Positive, alibi_slopes, create

Increments = Literal["softplus", "relu", "log-sigmoid", "exp", "const"]
Gate = Literal["none", "softplus", "learned"]


class ContextualDistance(Encoding):
    """phi(G_i (S_i - S_j)): a kernel of the gated distance on a clock. An option left at None is the scheme's own.

    Args:
        increments: f, what a token adds to the clock: `softplus`, `relu`, `log-sigmoid` (-ln sigma(z)) or `exp` of
            the linear map z of its input; `const` is 1, the index.
        gate: G, the unit of the query's distances: `none` is 1; `softplus` of a linear map of the query's input;
            `learned`, one positive number per head that starts at ALiBi's slope.
        kernel: phi.
        kernel_order: with a gate, phi(G z) `after_gate` or G phi(z) `before_gate`.
        input: what the linear maps read: `full` width, or each `head` its own slice.
        linear_bias: whether the increments' linear map has a bias.
    """

    takes_kernel = True
    own_increments: ClassVar[Increments] = "softplus"
    own_gate: ClassVar[Gate] = "none"
    own_kernel: ClassVar[str] = "linear"
    own_linear_bias: ClassVar[bool] = True

    def __init__(
        self,
        spec: LayerSpec,
        *,
        increments: Increments | None = None,
        gate: Gate | None = None,
        kernel: str | None = None,
        kernel_order: Order = "after_gate",
        input: Input = "full",
        linear_bias: bool | None = None,
    ) -> None:
        super().__init__(spec)
        heads, dim = spec.heads, spec.dim
        f = increments or self.own_increments
        biased = self.own_linear_bias if linear_bias is None else linear_bias
        self.contextual = (
            None if f == "const" else ContextualPositions(dim, heads, increments=f, bias=biased, source=input)
        )
        # Weights that were saved under an earlier name.
        self.register_load_state_dict_pre_hook(rename_clock)  # type: ignore[no-untyped-call]
        self.gate: HeadProjection | Positive | None = None
        if (gate or self.own_gate) == "softplus":
            self.gate = HeadProjection(dim, heads, bias=False, source=input)
        elif (gate or self.own_gate) == "learned":
            self.gate = Positive(alibi_slopes(heads), heads)
        self.kernel = create(kernel or self.own_kernel, heads)
        self.kernel_order: Order = kernel_order

    def exemptions(self) -> dict[str, str]:
        if self.contextual is not None and self.kernel.kinked:
            return {"float32_gradients": "within 2e-3: the kernel's slope jumps between two distances of its table"}
        if self.contextual is not None and self.kernel.steep and self.own_linear_bias:
            why = "within 3e-4: under a kernel that is steep at 0 one bias for all tokens gets a small difference"
            return {"float32_gradients": f"{why} of large sums"}
        return {}

    def positions(self, x: Tensor, past: Bias | None, context: Context | None, z: Tensor | None = None) -> Tensor:
        """(B or 1, H or 1, T) S_t of the tokens of `x`, after `past`; `z`: what the clock's map makes of them, if that
        is there already.
        """
        if self.contextual is None:
            return index_positions(x, past, context)
        start = past.last() if isinstance(past, DistanceBias) else None
        return self.contextual.forward(x, start) if z is None else self.contextual.summed(z, start)

    def gates(self, x: Tensor) -> Tensor | None:
        """(B or 1, H, T) G_i, or None for 1."""
        if isinstance(self.gate, HeadProjection):
            return F.softplus(self.gate.forward(x))
        if isinstance(self.gate, Positive):
            value: Tensor = self.gate()
            return value.squeeze(-1).expand(1, -1, x.size(1))
        return None

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        z: Tensor | None = None
        if self.contextual is not None and isinstance(self.gate, HeadProjection):
            z, g = both_per_head(x, self.contextual.projection, self.gate)
            gate: Tensor | None = F.softplus(g)
        else:
            gate = self.gates(x)
        return distance_bias(
            self.kernel,
            self.positions(x, past, context, z),
            past,
            x=x,
            heads=self.heads,
            gate=gate,
            order=self.kernel_order,
            whole=self.contextual is None,
            counted=self.contextual is None and is_counted(context),
        )


def rename_clock(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """Read a checkpoint in which `contextual` was called `clock`."""
    for name in [name for name in state if name.startswith(f"{prefix}clock.")]:
        state[name.replace(f"{prefix}clock.", f"{prefix}contextual.", 1)] = state.pop(name)


@dataclass(frozen=True)
class DistancePerQuery(AddedBias):
    """m_h * sum over l of ln sigma(r_i . e_l): every query runs a clock of its own over the tokens between.

    Full rank, (B, H, R, S') per tile: no positions are shared by two rows.

    Args:
        readers: (B, H, T, r) what query i reads the tokens with, scale included.
        tokens: (B, H, S, r) what token l shows, of all tokens so far: the state of decoding.
        own: whether l runs from j+1 to i, with the query's own token (GRAPE); else from j to i-1, with the key's.
        slopes: (H, 1, 1) m_h, or None for 1.
    """

    readers: Tensor
    tokens: Tensor
    own: bool
    slopes: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.readers.size(0), self.readers.size(1), self.readers.size(2), self.tokens.size(2)

    def tile(self, rows: slice) -> Tensor:
        size = rows.stop - rows.start
        stop = self.tokens.size(2) - self.readers.size(2) + rows.stop
        steps = F.logsigmoid(self.readers[:, :, rows] @ self.tokens[:, :, :stop].transpose(-1, -2))
        # Either way a row's sum ends at its query: what is later adds nothing.
        later = hidden(size, stop if self.own else stop - 1, None, steps.device)
        steps = steps.masked_fill(later if self.own else F.pad(later, (0, 1), value=True), 0.0)
        # Summed from the query back, so that near keys lose no digits to far ones.
        total = steps.flip(-1).cumsum(-1).flip(-1)
        if self.own:
            total = F.pad(total[..., 1:], (0, 1))
        return total if self.slopes is None else self.slopes.to(total.dtype) * total
