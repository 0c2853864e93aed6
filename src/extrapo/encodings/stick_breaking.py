"""Stick-breaking attention (Tan et al., 2410.17980; code shawntan/stickbreaking-attention): from the last key to the
first, each takes its share of what is left of a stick of length 1.

    A_ij = beta_ij * product over j < l < i of (1 - beta_il),   beta_ij = sigma(z_ij),   z = s q.k (+ a bias),   j < i
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.hosted import HostedRows
from extrapo.encodings.core.spec import LayerSpec

Remainder = Literal["drop", "value"]


@final
@dataclass(frozen=True)
class Sticks(HostedRows):
    """Another bias's logits, but weights by breaking a stick instead of their softmax.

    Args:
        attend_current: whether the query's own key takes part.
        remainder: what becomes of what is left of the stick.
    """

    attend_current: bool
    remainder: Remainder

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        z = logits.to(torch.promote_types(logits.dtype, torch.float32))
        size, keys = z.shape[-2:]
        if not self.attend_current:
            own = torch.ones(size, keys, dtype=torch.bool, device=z.device)
            z = z.masked_fill(own.triu(keys - size), float("-inf"))
        # A masked key has z = -inf: it takes nothing, and leaves the stick as it is, ln(1 - beta) = 0.
        left = F.logsigmoid(-z).flip(-1).cumsum(-1).flip(-1)
        weights = (F.logsigmoid(z) + F.pad(left[..., 1:], (0, 1))).exp()
        out = weights.to(v.dtype) @ v
        if self.remainder == "value":
            out = out + left[..., :1].exp().to(v.dtype) * v[..., keys - size :, :]
        return out


@encodings.register("stick-breaking")
class StickBreaking(Encoding):
    """The nearest key of a high logit takes what there is: recency without positions, and without a softmax.

    In a composition with a bias or with a scheme that owns its logits, these are the z that break the stick.

    Args:
        attend_current: keys j <= i; by default j < i alone, and the first token attends to nothing.
        remainder: what is left of the stick, 1 - sum over j of A_ij: `drop` (default), or `value`, which gives it to
            the query's own v_i.
    """

    paper = Paper(
        "Tan et al., 2410.17980",
        summary="each key takes its share of the stick that nearer ones left",
        year=2024,
        contextual=True,
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        attend_current: bool = False,
        remainder: Remainder = "drop",
    ) -> None:
        super().__init__(spec)
        self.attend_current = attend_current
        self.remainder: Remainder = remainder

    def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        return Sticks(bias, self.attend_current, self.remainder)
