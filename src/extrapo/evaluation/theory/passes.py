"""What the attention of a trained model has before it on a text, layer by layer, without a matrix of all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from extrapo.block import Block
from extrapo.encodings import Context, Encoded, Encoding
from extrapo.encodings.core.visibility import Visibility
from extrapo.evaluation.theory.weights import weights
from extrapo.gpt import GPT


@dataclass(frozen=True)
class LayerPass:
    """One layer on one text.

    Args:
        layer: its index.
        encoding: its own.
        x: (1, T, D) its normed input.
        q, k: (1, H, T, d) projections, before any transform.
        encoded: what attention got.
        scale: s.
        context: where the tokens stand.
    """

    layer: int
    encoding: Encoding
    x: Tensor
    q: Tensor
    k: Tensor
    encoded: Encoded
    scale: float
    context: Context

    @torch.no_grad()
    def row(self, place: int) -> QueryRow:
        """The query at a place."""
        rows = slice(place, place + 1)
        encoded, bias = self.encoded, self.encoded.bias
        seen = slice(0, place + 1)
        logits = bias.score_rows(encoded.q[:, :, rows], encoded.k[:, :, seen], self.scale, rows).double()
        logits = logits.expand(1, self.q.size(1), 1, place + 1)
        visible = visible_row(bias.visibility(), place, logits.device)
        logits = logits.masked_fill(~visible, float("-inf"))
        added = bias.added(rows).double().expand_as(logits)
        plain = (self.scale * (self.q[:, :, rows] @ self.k[:, :, seen].transpose(-1, -2))).double()
        p = weights(logits, bias, rows)
        logits, added, plain, p = (part[0, :, 0].flip(-1) for part in (logits, added, plain, p))
        return QueryRow(logits, added, plain, p, encoded.v[0, :, seen])


@dataclass(frozen=True)
class QueryRow:
    """One query's keys by distance 0..L-1, (H, L) each in float64.

    Args:
        logits: -inf where a key is not seen.
        added: what is added to the scores.
        plain: s q.k of the untransformed projections.
        p: weights.
        values: (H, L, e) as attention adds them up, by place: the farthest first.
    """

    logits: Tensor
    added: Tensor
    plain: Tensor
    p: Tensor
    values: Tensor


def visible_row(seen: Visibility | None, place: int, device: torch.device) -> Tensor:
    """(place + 1,) bool: the keys that the query at a place sees."""
    keys = torch.arange(place + 1, device=device)
    if seen is None:
        return torch.ones_like(keys, dtype=torch.bool)
    return seen.sees(torch.tensor(place, device=device), keys)


@torch.no_grad()
def passes(model: GPT, tokens: Tensor) -> Iterator[LayerPass]:
    """Each layer of a model in evaluation mode on one text (1, T)."""
    context, _ = model.context(tokens)
    x = model.embed(tokens, context)
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        here = replace(context, residual=x)
        read = block.attention_norm(x)
        q, k, v = block.attention.project(read)
        encoding = block.attention.encoding
        encoded = encoding.encode(q, k, v, x=read, context=here)
        yield LayerPass(layer, encoding, read, q, k, encoded, block.attention.scale, here)
        x = block.residual(x, block.attention.output(encoded), here)
