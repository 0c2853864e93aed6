"""Composition by name, `rope+k-cable`: any transform with any bias, the grid that no single paper has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from extrapo.encodings.base import Encoding, Transformed
from extrapo.encodings.bias import Bias
from extrapo.errors import UserError


class Embeddings(nn.Module):
    """Several positional embeddings, added one after the other."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, start: int) -> Tensor:
        """(B, T, D) embeddings of the tokens start..start+T-1 -> the same with positions added."""
        for part in self.parts:
            x = part(x, start)
        return x


def brings_bias(encoding: type[Encoding]) -> bool:
    """Whether the scheme adds to the logits, or owns them."""
    return encoding.bias is not Encoding.bias


class Composed(Encoding):
    """The transforms of all parts, in order, and the bias of the one part that has one.

    Args:
        parts: the encodings, by registry name; at most one of them may bring a bias.
    """

    def __init__(self, parts: Sequence[tuple[str, Encoding]]) -> None:
        first = parts[0][1]
        super().__init__(first.heads, first.head_dim, first.dim)
        biased = [name for name, part in parts if brings_bias(type(part))]
        if len(biased) > 1:
            raise UserError(f"'{biased[0]}' and '{biased[1]}' both bring a bias: a composition takes one")
        self.parts = nn.ModuleDict(dict(parts))
        self.biased = biased[0] if biased else parts[0][0]

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, start: int, carry: Any) -> Transformed:
        carries: dict[str, Any] = dict(carry or {})
        for name, part in self.parts.items():
            assert isinstance(part, Encoding)
            q, k, v, carries[name] = part.transform(q, k, v, x=x, start=start, carry=carries.get(name))
        return Transformed(q, k, v, carries)

    def bias(self, x: Tensor, past: Bias | None = None) -> Bias:
        part = self.parts[self.biased]
        assert isinstance(part, Encoding)
        return part.bias(x, past)
