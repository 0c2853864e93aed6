"""Transformer-XL's encoding (Dai et al., 1901.02860; code kimiyoung/transformer-xl), without its recurrence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.curves import gather_by_distance, longest_distance, whole_distances
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.frequencies import frequencies
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@dataclass(frozen=True)
class TransformerXLBias(Relative, Rowwise):
    """The four terms of the logits.

    Args:
        u: (H, 1, d) what every query asks of the content.
        v: (H, 1, d) what every query asks of the distance.
        relative: (H, N, d) r_n for n = 0..N-1; longer distances count as N-1.
        of_distances: n (N,) -> r_n (H, N, d).
    """

    u: Tensor = field(kw_only=True)
    v: Tensor = field(kw_only=True)
    relative: Tensor = field(kw_only=True)
    of_distances: Callable[[Tensor], Tensor] = field(kw_only=True)

    def at_distances(self, distances: Tensor) -> TransformerXLBias:
        return replace(self, relative=self.of_distances(distances[: self.relative.size(1)]))

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        u, v, relative = (t.to(q.dtype) for t in (self.u, self.v, self.relative))
        # Every query against every distance once, then each key picks its own.
        curves = (q + v) @ relative.transpose(-1, -2)
        position = gather_by_distance(curves, whole_distances(self, rows, curves.size(-1) - 1))
        return scale * ((q + u) @ k.transpose(-1, -2) + position).to(self.dtype)


@encodings.register("transformer-xl")
class TransformerXL(Encoding):
    """logit_ij = s ((q_i + u_h).k_j + (q_i + v_h).r_n), r_n = W_R [sin(n theta), cos(n theta)], n = i - j.

    theta_c = 10000^(-2c/D) for c = 0..D/2-1; W_R maps D to H d without a bias. u, v and W_R start as N(0, 0.02), and
    are the layer's own (the authors' code shares u and v between layers unless told otherwise).

    Args:
        clamp_len: distances beyond count as this one, as the authors' code can do at evaluation; None for no limit.
    """

    paper = Paper(
        "Dai et al., 1901.02860",
        "index",
        summary="a learned map of the distance's sinusoid, and two biases on the query",
        year=2019,
        contextual=True,
    )
    bias_kind = "owns"
    query_key = "read"

    def __init__(self, spec: LayerSpec, *, clamp_len: int | None = None) -> None:
        super().__init__(spec)
        heads, head_dim, dim = spec.heads, spec.head_dim, spec.dim
        if dim % 2:
            raise UserError(f"encoding 'transformer-xl' needs an even width, not {dim}")
        if clamp_len is not None and clamp_len < 1:
            raise UserError(f"encoding 'transformer-xl': clamp_len must be at least 1, not {clamp_len}")
        self.clamp_len = clamp_len
        self.u = nn.Parameter(0.02 * torch.randn(heads, 1, head_dim))
        self.v = nn.Parameter(0.02 * torch.randn(heads, 1, head_dim))
        self.project = nn.Parameter(0.02 * torch.randn(heads * head_dim, dim))

    def relative(self, start: int, stop: int) -> Tensor:
        """r_n for n = start..stop-1: (H, stop - start, d)."""
        return self.of_distances(torch.arange(start, stop, device=self.project.device, dtype=wide(self.project)))

    def of_distances(self, n: Tensor) -> Tensor:
        """r_n of distances n (N,), wide: (H, N, d)."""
        angles = n.unsqueeze(-1) * frequencies(self.dim, 10_000.0, self.project)
        sinusoid = torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.project.dtype)
        return F.linear(sinusoid, self.project).view(-1, self.heads, self.head_dim).transpose(0, 1)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        keys = with_past(queries, past)
        last = longest_distance(queries, keys)
        if self.clamp_len is not None:
            last = min(last, self.clamp_len)
        if isinstance(past, TransformerXLBias):
            # While decoding only the distances that are new.
            cached = past.relative
            relative = torch.cat([cached, self.relative(cached.size(1), max(cached.size(1), last + 1))], dim=1)
        else:
            relative = self.relative(0, last + 1)
        return TransformerXLBias(
            self.heads,
            queries,
            keys,
            wide_enough(x),
            u=self.u,
            v=self.v,
            relative=relative,
            of_distances=self.of_distances,
        )
