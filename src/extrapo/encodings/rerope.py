"""RoPE at distances that stop growing, ReRoPE (Su, kexue.fm/archives/9708, 2023), or grow slowly, Self-Extend (Jin et
al., 2401.01325).

    logit_ij = s q_i^T R(-m theta) k_j,   m = n = i - j           where n < w
    rerope                                m = w                   elsewhere
    self-extend                           m = floor(i/G) - floor(j/G) + w - w/G

Made for a model that was trained with RoPE: no distance beyond those of its training is ever met. Where n < w a row
needs the product of RoPE, elsewhere that of queries and keys at other positions: a tile makes both, each over the keys
that need it. Keys are kept as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.rotation import Layout, rotate
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TwoRanges(Relative, Rowwise):
    """RoPE within the window, RoPE at the far positions beyond it.

    Args:
        window: w; the near range is i - j < w.
        far_queries: (B or 1, 1, T) where queries stand for keys beyond the window.
        far_keys: (B or 1, 1, S) where these keys stand.
        theta: (d/2,) frequencies, wide.
        layout: which two dimensions make a plane.
    """

    window: int
    far_queries: Tensor
    far_keys: Tensor
    theta: Tensor
    layout: Layout

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        i, j = self.queries[..., rows], self.keys[..., : self.stop(rows)]
        near = i.unsqueeze(-1) - j.unsqueeze(-2) < self.window
        first, last = overlap(near)
        inside = self.rotate_to(q, i) @ self.rotate_to(k[..., first:, :], j[..., first:]).transpose(-1, -2)
        far_k = self.rotate_to(k[..., :last, :], self.far_keys[..., :last])
        outside = self.rotate_to(q, self.far_queries[..., rows]) @ far_k.transpose(-1, -2)
        both = torch.where(near[..., first:last], inside[..., : last - first], outside[..., first:])
        return scale * torch.cat([outside[..., :first], both, inside[..., last - first :]], dim=-1)

    def rotate_to(self, x: Tensor, positions: Tensor) -> Tensor:
        """`x` (B, H, N, d) rotated to its positions (B or 1, 1, N)."""
        return rotate(x, positions.unsqueeze(-1) * self.theta, self.layout)


def overlap(near: Tensor) -> tuple[int, int]:
    """The columns before the first are far for all rows, those from the last on near for all, of `near` (.., R, S)."""
    flat = near.flatten(0, -2)
    far_for_all = (~flat).all(0).long().cumprod(0)
    near_for_all = flat.all(0).long().flip(0).cumprod(0)
    return int(far_for_all.sum()), flat.size(-1) - int(near_for_all.sum())


class NearAndFar(Encoding):
    """RoPE up to a window; the classes below say where tokens stand beyond it."""

    bias_kind = "owns"
    name: ClassVar[str]

    def __init__(self, spec: LayerSpec, *, window: int | None, base: float, layout: Layout) -> None:
        super().__init__(spec)
        require_even(self.head_dim, self.name)
        if window is not None and window < 1:
            raise UserError(f"encoding '{self.name}': window must be at least 1, not {window}")
        self._window, self.base, self.layout = window, base, layout

    @property
    def window(self) -> int:
        """w, half the training length unless told."""
        return self._window or max(1, self.spec.train_length // 2)

    @abstractmethod
    def far(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Where queries and keys stand for each other beyond the window."""

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        keys = with_past(queries, past)
        far_queries, far_keys = self.far(queries, keys)
        return TwoRanges(
            heads=self.heads,
            queries=queries,
            keys=keys,
            dtype=wide_enough(x),
            window=self.window,
            far_queries=far_queries,
            far_keys=far_keys,
            theta=frequencies(self.head_dim, self.base, x),
            layout=self.layout,
        )


@encodings.register("rerope")
class ReRoPE(NearAndFar):
    """Distances min(n, w): content counts beyond the window, order does not.

    The author's code also scales queries by max(1, ln(i + 1) / ln(training length)); that is `log-n`, which composes.

    Args:
        window: w; None is half the training length.
        base: of RoPE's frequencies.
        layout: which two dimensions make a plane, see RoPE.
    """

    name = "rerope"
    paper = Paper(
        "Su 2023, kexue.fm 9708", "index", "rotation", summary="RoPE at min(n, w)", year=2023, state="position"
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        window: int | None = None,
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec, window=window, base=base, layout=layout)

    def far(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(queries, self.window), torch.zeros_like(keys)


@encodings.register("self-extend")
class SelfExtend(NearAndFar):
    """Beyond the window, positions in groups of G, shifted so that they go on where the window ends.

    Queries and keys are floored separately, as in the authors' code: floor(i/G) - floor(j/G), not floor(n/G). With a
    window of half the training length T, no distance passes T up to texts of (1 + G) T / 2.

    Args:
        group: G.
        window: w, a multiple of G; None is the last one within half the training length.
        base: of RoPE's frequencies.
        layout: which two dimensions make a plane, see RoPE.
    """

    name = "self-extend"
    paper = Paper(
        "Jin et al., 2401.01325",
        "index",
        "rotation",
        summary="RoPE at grouped positions beyond a window",
        year=2024,
        state="position",
    )
    translation_invariant = False

    def __init__(
        self,
        spec: LayerSpec,
        *,
        group: int = 8,
        window: int | None = None,
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec, window=window, base=base, layout=layout)
        if group < 1 or (window or 0) % group:
            raise UserError(
                f"encoding 'self-extend': the window must be a multiple of the group, not {window} and {group}"
            )
        self.group = group

    @property
    def window(self) -> int:
        return self._window or max(self.group, self.spec.train_length // 2 // self.group * self.group)

    def far(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        shift = self.window - self.window // self.group
        return (queries / self.group).floor() + shift, (keys / self.group).floor()
