"""Gradient positional sensitivity (Vetcha, 2601.06113): whether the gradient of a logit sees the position.

    g_mag(n) = E |dA(n)/dq| / |k|,   g_dir(n) = E cos(dA(n)/dq, k),   g_x(n) = E |db(n)/dx_i|

q is the query before any transform, x_i the layer's input at the query, q and k given: what contextual positions and
gates make of it. A claim holds where one of them is not the same at all distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from extrapo.evaluation.theory.built import Layer

DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64, 128)
CONTENTS = 8
#: What counts as the same.
SAME = 1e-3


class Sensitivity(NamedTuple):
    """(H, distances) magnitude and direction relative to the key's, and (distances,) that of the layer's input."""

    magnitude: Tensor
    direction: Tensor
    by_input: Tensor

    def of_query(self) -> bool:
        """Whether dA/dq changes with the distance."""
        return any(bool(((g - g[:, :1]).abs() > SAME).any()) for g in (self.magnitude, self.direction))

    def of_input(self) -> bool:
        """Whether db/dx_i does."""
        g = self.by_input
        return bool(g.max() > 1e-7) and bool(((g - g[0]).abs() > SAME * g.max()).any())


def sensitivity(layer: Layer, distances: Sequence[int] = DISTANCES) -> Sensitivity:
    """The gradients of the last query's logits at some distances, in the mean over contents."""
    encoding, length = layer.encoding, 2 * max(distances) + 1
    generator = torch.Generator().manual_seed(5)
    contents = torch.randn(3, CONTENTS, encoding.heads, length, encoding.head_dim, generator=generator)
    x, context = layer.input(length)
    x = x.expand(CONTENTS, -1, -1).clone().requires_grad_()
    q, k, v = contents.unbind(0)
    q = q.clone().requires_grad_()
    with torch.enable_grad():
        encoded = encoding.encode(q, k, v, x=x, context=context)
        last = slice(length - 1, length)
        logits = encoded.bias.score_rows(encoded.q[:, :, last], encoded.k, 1.0, last)
        logits = logits.expand(CONTENTS, encoding.heads, 1, length)
    magnitudes, directions, inputs = [], [], []
    for n in distances:
        at = logits[..., length - 1 - n].sum()
        to_q, to_x = torch.autograd.grad(at, [q, x], retain_graph=True, allow_unused=True)
        key = k[:, :, length - 1 - n]
        to_q = torch.zeros_like(key) if to_q is None else to_q[:, :, -1]
        magnitudes.append((to_q.norm(dim=-1) / key.norm(dim=-1)).mean(0))
        directions.append(torch.cosine_similarity(to_q, key, dim=-1).mean(0))
        inputs.append(torch.zeros(()) if to_x is None else to_x[:, -1].norm(dim=-1).mean())
    return Sensitivity(
        torch.stack(magnitudes, -1).detach(), torch.stack(directions, -1).detach(), torch.stack(inputs).detach()
    )
