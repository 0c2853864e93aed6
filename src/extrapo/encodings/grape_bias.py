"""GRAPE's additive forms (Zhang et al., 2512.07805; code model-architectures/GRAPE): slopes that q and k gate.

    b_ij = -(i - j) omega_h m_h (y_j + g_i)                                            grape-a-key, -query, -qk
        y_j = softplus(u_h . k_j / sqrt(d)),   g_i = softplus(v_h . q_i / sqrt(d))
    b_ij = m_h * sum over l = j+1..i of ln sigma(p_i . R(-l) p^_l / d_p)               grape-ap

m_h are ALiBi's slopes; omega_h starts at 1; u_h, v_h have unit length; p = W x, p^ its RMS-normalised form, and R turns
every plane by the same angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, Elementwise, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.contextual import DistancePerQuery
from extrapo.encodings.core.encoding import Paper, encodings
from extrapo.encodings.core.logit import Additive, Logit
from extrapo.encodings.core.normed import NormedQK
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.rotation import rotate
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.kernels import LowRank, Positive, alibi_slopes

SOURCE = "Zhang et al., 2512.07805"


@dataclass(frozen=True)
class GatedSlopeLogit(Additive):
    """s q.k - (S_i - S_j) slope_h (y_j + g_i), of factors S_i, -S_j, the slope and one or both of the gates."""

    def bias(self, *factors: Tensor) -> Tensor:
        row, column, slope, *gates = factors
        return -(row + column).clamp_min(0.0) * slope * (gates[0] if len(gates) == 1 else gates[0] + gates[1])


@dataclass(frozen=True)
class GatedSlopes(Relative, Elementwise):
    """-(S_i - S_j) slope_h (y_j + g_i), or with one of the gates alone.

    Args:
        slopes: (H, 1, 1) omega_h m_h.
        key_gates: (B, H, S) y_j, or None for 0.
        query_gates: (B, H, T) g_i, or None for 0.
    """

    slopes: Tensor = field(kw_only=True)
    key_gates: Tensor | None = None
    query_gates: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self.shape_of_positions()
        gates = (gate for gate in (self.key_gates, self.query_gates) if gate is not None)
        return max(batch, *(gate.size(0) for gate in gates)), heads, queries, keys

    @property
    def logit(self) -> Logit:
        return GatedSlopeLogit()

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return (*self.edges(rows), *self.others(rows))

    def wide_formula(self) -> tuple[Logit, tuple[Tensor, ...]]:
        return self.logit, (self.queries, self.keys, *self.others(slice(0, self.queries.size(-1))))

    def others(self, rows: slice) -> tuple[Tensor, ...]:
        """The slope, and the gates."""
        of_keys = () if self.key_gates is None else (self.key_gates[..., : self.stop(rows)].unsqueeze(-2),)
        of_queries = () if self.query_gates is None else (self.query_gates[..., rows].unsqueeze(-1),)
        return (self.slopes.to(self.dtype).unsqueeze(0), *of_keys, *of_queries)

    def low_rank(self) -> LowRank:
        i, j = (positions.to(self.dtype) for positions in self.from_the_middle())
        slope = self.slopes.to(self.dtype).squeeze(-1)
        u, w = [], []
        if self.key_gates is not None:
            # -(i - j) y_j = -i * y_j + 1 * j y_j
            u += [-slope * i, slope * torch.ones_like(i)]
            w += [self.key_gates, j * self.key_gates]
        if self.query_gates is not None:
            # -(i - j) g_i = g_i * j, and a term of the row.
            u += [slope * self.query_gates]
            w += [j]
        batch, heads, *_ = self.shape
        return LowRank(*(torch.stack([c.expand(batch, heads, -1) for c in columns], dim=-1) for columns in (u, w)))


@dataclass(frozen=True)
class UnreadSlopes(Relative, Rowwise):
    """GatedSlopes of q and k that are not known yet: it reads those of a block of rows, or all of them in `bind`.

    Args:
        slopes: (H, 1, 1) omega_h m_h.
        key_reader: (H, d) u_h of unit length, or None where keys do not gate.
        query_reader: (H, d) v_h of unit length, or None where queries do not gate.
    """

    slopes: Tensor = field(kw_only=True)
    key_reader: Tensor | None = None
    query_reader: Tensor | None = None

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        return self.bound_to(self.gated(q, k, self.queries, self.keys))

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        bias = self.gated(q, k, self.queries[..., rows], self.keys[..., : self.stop(rows)])
        return bias.score_rows(q, k, scale, slice(0, rows.stop - rows.start))

    def gated(self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor) -> GatedSlopes:
        """The bias of q (B, H, R, d) at positions `queries` (B or 1, 1, R), and of k (B, H, S', d) at `keys`."""
        return GatedSlopes(
            self.heads,
            queries,
            keys,
            self.dtype,
            slopes=self.slopes,
            key_gates=None if self.key_reader is None else self.gate(k, self.key_reader),
            query_gates=None if self.query_reader is None else self.gate(q, self.query_reader),
        )

    def gate(self, vectors: Tensor, reader: Tensor) -> Tensor:
        """softplus(u_h . k / sqrt(d)), (B, H, N, d) -> (B, H, N)."""
        width = reader.size(-1)
        if vectors.size(-1) != width:
            raise UserError(f"GRAPE's gates read q and k of width {width}; another scheme made it {vectors.size(-1)}")
        score = torch.einsum("bhnd,hd->bhn", vectors.to(self.dtype), reader.to(self.dtype))
        return F.softplus(score / math.sqrt(width))


class GatedSlope(NormedQK):
    """-(i - j) omega_h m_h times a gate; the gates read q and k as attention does, after every transform.

    Args:
        qk_norm: normalise q and k, per head, with learned gains; on in the authors' code.
    """

    query_key = "read"
    reads_keys: ClassVar[bool] = False
    reads_queries: ClassVar[bool] = False
    slopes: Tensor

    def __init__(self, spec: LayerSpec, *, qk_norm: bool = True) -> None:
        super().__init__(spec)
        self.add_norms(qk_norm)
        self.omega = Positive(1.0, spec.heads)
        self.register_buffer("slopes", torch.tensor(alibi_slopes(spec.heads)).view(-1, 1, 1), persistent=False)

        def reader() -> nn.Parameter:
            return nn.Parameter(torch.randn(spec.heads, spec.head_dim) / math.sqrt(spec.head_dim))

        self.u = reader() if self.reads_keys else None
        self.v = reader() if self.reads_queries else None

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return UnreadSlopes(
            self.heads,
            queries,
            with_past(queries, past),
            wide_enough(x),
            slopes=self.omega() * self.slopes,
            key_reader=None if self.u is None else F.normalize(self.u, dim=-1, eps=1e-6),
            query_reader=None if self.v is None else F.normalize(self.v, dim=-1, eps=1e-6),
        )


def gated(by: str) -> Paper:
    """The catalogue's line of a gated slope."""
    return Paper(SOURCE, "index", "norm of q, k", "linear", f"ALiBi's slopes, gated by {by}", 2025, contextual=True)


@encodings.register("grape-a-key")
class GrapeAKey(GatedSlope):
    """b_ij = -(i - j) omega_h m_h softplus(u_h . k_j / sqrt(d)): a key says how fast it fades."""

    paper = gated("the key")
    reads_keys = True


@encodings.register("grape-a-query")
class GrapeAQuery(GatedSlope):
    """b_ij = -(i - j) omega_h m_h softplus(v_h . q_i / sqrt(d)): a query says how far it looks."""

    paper = gated("the query")
    reads_queries = True


@encodings.register("grape-a-qk")
class GrapeAQueryKey(GatedSlope):
    """b_ij = -(i - j) omega_h m_h (softplus(v_h . q_i / sqrt(d)) + softplus(u_h . k_j / sqrt(d)))."""

    paper = gated("query and key")
    reads_keys, reads_queries = True, True


@encodings.register("grape-ap")
class GrapeAP(NormedQK):
    """b_ij = m_h * sum over l = j+1..i of ln sigma(p_i . R(-l) p^_l / d_p), the path integral.

    The query's p_i is neither normalised nor turned, so that the logits depend on the index itself.

    Args:
        p_dim: d_p, even; None is the head's width (8 in the authors' released configurations).
        qk_norm: normalise q and k, per head, with learned gains; on in the authors' code.

    Raises:
        UserError: an odd d_p.
    """

    paper = Paper(
        SOURCE,
        "contextual",
        "norm of q, k",
        summary="a sum over the path from key to query, of a gate that the query reads",
        year=2025,
        state="R(-l) p^_l",
    )
    translation_invariant = False
    slopes: Tensor

    def __init__(self, spec: LayerSpec, *, p_dim: int | None = None, qk_norm: bool = True) -> None:
        super().__init__(spec)
        self.add_norms(qk_norm)
        self.p_dim = spec.head_dim if p_dim is None else p_dim
        if self.p_dim < 2 or self.p_dim % 2:
            raise UserError(f"encoding 'grape-ap' turns pairs of dimensions: p_dim must be even, not {self.p_dim}")
        self.p = nn.Linear(spec.dim, spec.heads * self.p_dim, bias=False)
        nn.init.normal_(self.p.weight, std=0.5 / math.sqrt(spec.dim))
        self.register_buffer("slopes", torch.tensor(alibi_slopes(spec.heads)).view(-1, 1, 1), persistent=False)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        p = self.p(x.to(self.p.weight.dtype)).to(wide_enough(x)).unflatten(-1, (self.heads, self.p_dim)).transpose(1, 2)
        angles = -index_positions(x, past, context).unsqueeze(-1).expand(-1, -1, -1, self.p_dim // 2)
        tokens = rotate(F.rms_norm(p, (self.p_dim,)), angles)
        if isinstance(past, DistancePerQuery):
            tokens = torch.cat([past.tokens, tokens], dim=2)
        return DistancePerQuery(p / self.p_dim, tokens, own=True, slopes=self.slopes)
