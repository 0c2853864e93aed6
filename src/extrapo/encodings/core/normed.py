"""Queries and keys of each head, RMS-normalised with learned gains that the heads share (PaTH, GRAPE)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Transformed
from extrapo.encodings.core.spec import LayerSpec


def query_key_norms(spec: LayerSpec) -> tuple[nn.RMSNorm, nn.RMSNorm]:
    """The norms of q and of k, over the width of a head."""
    return nn.RMSNorm(spec.head_dim, eps=1e-5), nn.RMSNorm(spec.head_dim, eps=1e-5)


def normed(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """`x` divided by its root mean square, times the gains, in the wider of both dtypes and back in its own: under
    autocast q and k stay as narrow as v.
    """
    dtype = torch.promote_types(x.dtype, norm.weight.dtype)
    # Not by the module, which would say that gains of another dtype are slow.
    return F.rms_norm(x.to(dtype), norm.normalized_shape, norm.weight.to(dtype), norm.eps).to(x.dtype)


class NormedQK(Encoding):
    """A scheme that may normalise q and k; `add_norms`, in its constructor, says whether it does."""

    q_norm: nn.RMSNorm | None
    k_norm: nn.RMSNorm | None

    def add_norms(self, wanted: bool) -> None:
        """Make the norms, where they are wanted; where not, `transform` has no effect."""
        self.q_norm, self.k_norm = query_key_norms(self.spec) if wanted else (None, None)
        self.idle_steps = frozenset(() if wanted else {"transform"})

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        if self.q_norm is not None and self.k_norm is not None:
            q, k = normed(self.q_norm, q), normed(self.k_norm, k)
        return Transformed(q, k, v, state)
