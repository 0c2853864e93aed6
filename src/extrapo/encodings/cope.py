"""CoPE, contextual position encoding (Golovneva et al., 2405.18719; code facebookresearch/RAM, projects/cope).

    g_il = sigma(gate_scale q_i . k_l),   p_ij = min(sum over l = j..i of g_il, npos - 1)
    logit_ij = s q_i . k_j + bias_scale q_i . e[p_ij],   linear in p_ij between the vectors of whole positions

A query counts the keys that it finds worth counting, from itself back to the key, both included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visibility import hidden
from extrapo.errors import UserError

Scale = Literal["s", "one"]


@dataclass(frozen=True)
class CountedBias(Rowwise):
    """The logits of CoPE: all they need besides q and k is the table.

    Args:
        queries: T.
        keys: S.
        heads: number of heads.
        table: (npos, d) e, the vectors of the positions 0, 1, 2, ..., npos - 1.
        bias_scale: factor of the term of the positions, `s` or `one`.
        gate_scale: factor of the dot product in the gates, `s` or `one`.
    """

    queries: int
    keys: int
    heads: int
    table: Tensor
    bias_scale: Scale
    gate_scale: Scale

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, self.heads, self.queries, self.keys

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        if q.size(-1) != self.table.size(-1):
            raise UserError(f"'cope' reads queries of width {self.table.size(-1)}; another scheme made it {q.size(-1)}")
        # A position is a sum over many keys: in half precision it would lose its fraction.
        dtype = torch.promote_types(q.dtype, torch.float32)
        q, k, table = q.to(dtype), k.to(dtype), self.table.to(dtype)
        factor = {"s": scale, "one": 1.0}
        content = q @ k.transpose(-1, -2)
        future = hidden(q.size(-2), k.size(-2), None, q.device)
        gates = (factor[self.gate_scale] * content).sigmoid().masked_fill(future, 0.0)
        last = table.size(0) - 1
        position = gates.flip(-1).cumsum(-1).flip(-1).clamp_max(last)
        below = position.detach().long()
        whole = q @ table.transpose(0, 1)
        left, right = whole.gather(-1, below), whole.gather(-1, (below + 1).clamp_max(last))
        return scale * content + factor[self.bias_scale] * torch.lerp(left, right, position - below)


@encodings.register("cope")
class CoPE(Encoding):
    """Positions are sums of gates between query and key; each is a vector that the query is multiplied with.

    Args:
        npos: number of positions, the farthest npos - 1: 64 as in DAPE's runs; in the authors' code the training
            length + 1, in x-transformers 16.
        bias_scale: `s` divides the term of the positions by sqrt(d) with the dot product, the default of the authors'
            code; `one` leaves it as it is (their --cope-nodiv, x-transformers, DAPE's code).
        gate_scale: `s`, gates of the scaled dot product as in all these; `one`, of the bare one.

    Raises:
        UserError: no position at all.
    """

    paper = Paper(
        "Golovneva et al., 2405.18719",
        "contextual",
        summary="positions count the keys that the query's gates open for",
        year=2024,
        contextual=True,
    )
    bias_kind = "owns"
    query_key = "read"
    exempt: ClassVar[dict[str, str]] = {
        "float32_gradients": "within 2e-3: the gradient jumps where a position is a whole number"
    }

    def __init__(
        self,
        spec: LayerSpec,
        *,
        npos: int = 64,
        bias_scale: Scale = "s",
        gate_scale: Scale = "s",
    ) -> None:
        super().__init__(spec)
        if npos < 1:
            raise UserError(f"encoding 'cope': npos must be at least 1, not {npos}")
        self.table = nn.Parameter(torch.zeros(npos, spec.head_dim))
        self.bias_scale: Scale = bias_scale
        self.gate_scale: Scale = gate_scale

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        keys = x.size(1) + (0 if past is None else past.shape[-1])
        return CountedBias(x.size(1), keys, self.heads, self.table, self.bias_scale, self.gate_scale)
