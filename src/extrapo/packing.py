"""Packing: several documents in one row of tokens, none of which sees another.

Each document is taken out into a row of its own, padded on the right, and put back afterwards. A causal scheme does not
see the padding, and positions, clocks, convolutions and states start anew in each document: what a document gets is by
construction what it would get alone, under every encoding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.errors import UserError


class Packing:
    """The documents of a batch of rows.

    Args:
        documents: (B, T) integers, constant over a document; a change starts a new one.
    """

    def __init__(self, documents: Tensor) -> None:
        if documents.dim() != 2:
            raise UserError(f"documents must be (batch, length), not {tuple(documents.shape)}")
        self.shape = documents.shape
        first = torch.ones_like(documents, dtype=torch.bool)
        first[:, 1:] = documents[:, 1:] != documents[:, :-1]
        row = first.flatten().cumsum(0) - 1
        starts = first.flatten().nonzero().squeeze(-1)
        column = torch.arange(row.numel(), device=row.device) - starts[row]
        self.lengths = row.bincount()
        self.rows, self.columns = self.lengths.numel(), int(self.lengths.max())
        self._place = row * self.columns + column

    def unpack(self, x: Tensor) -> Tensor:
        """(B, T, ...) -> (N, L, ...): one document a row, zeros after its end."""
        flat = x.flatten(0, 1)
        out = flat.new_zeros(self.rows * self.columns, *flat.shape[1:]).index_copy(0, self._place, flat)
        return out.view(self.rows, self.columns, *x.shape[2:])

    def pack(self, y: Tensor) -> Tensor:
        """(N, L, ...) -> (B, T, ...)."""
        return y.flatten(0, 1)[self._place].view(*self.shape, *y.shape[2:])
