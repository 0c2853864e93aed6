"""Composition by name, `rope+k-cable`: any transform with any bias, the grid that no single paper has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from extrapo.encodings.core.encoding import Encoding, Transformed
from extrapo.encodings.core.bias import Bias, HostedBias, NoBias
from extrapo.encodings.core.context import Context, Site
from extrapo.errors import UserError
from extrapo.kernels.base import Columns


class Embeddings(nn.Module):
    """Several positional embeddings, added one after the other."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, D) embeddings -> the same with positions added."""
        for part in self.parts:
            x = part(x, context)
        return x


@dataclass(frozen=True)
class Summed(Bias):
    """The logits of a scheme that owns them, plus the bias of one that adds.

    Args:
        owner: makes the logits and mixes the values.
        added: what is added to them.
    """

    owner: Bias
    added: Bias

    @property
    def additive(self) -> bool:
        return False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self.owner.shape
        return max(batch, self.added.shape[0]), heads, queries, keys

    def tile(self, rows: slice) -> Tensor:
        return self.owner.tile(rows) + self.added.tile(rows)

    def given(self, q: Tensor, k: Tensor) -> Bias:
        return Summed(self.owner.given(q, k), self.added.given(q, k))

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return self.owner.score(q, k, scale, rows) + self.added.tile(rows)

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        return self.owner.mix(logits, v, rows)

    def cached(self, k: Tensor) -> Tensor:
        return self.owner.cached(k)


@dataclass(frozen=True)
class Stacked(HostedBias):
    """The bias of a composition, with that of each part beside it: a part finds its own past there while decoding.

    Args:
        host: what attention uses.
        parts: the parts' own, by name.
    """

    parts: dict[str, Bias]

    def given(self, q: Tensor, k: Tensor) -> Bias:
        return self.host.given(q, k)

    def fold(self) -> Columns | None:
        return self.host.fold()


def brings_bias(encoding: type[Encoding]) -> bool:
    """Whether the scheme adds to the logits, or owns them."""
    return encoding.bias is not Encoding.bias


def turns(encoding: type[Encoding]) -> bool:
    """Whether the scheme changes q, k or v."""
    return encoding.transform is not Encoding.transform


def needs_heads_width(part: Encoding) -> bool:
    """Whether the scheme turns or reads q and k of a head's width."""
    return not part.acts_on_products and (part.reads_content or part.owns or turns(type(part)))


class Composed(Encoding):
    """The transforms of all parts, in order, those that scale last; one bias that is added, one that owns the logits;
    then what wraps them.

    Args:
        parts: the encodings, by registry name.

    Raises:
        UserError: two parts that add a bias, or two that own the logits; one that reads keys another rewrites; one
            that turns or reads q and k of a head's width where another makes them wider.
    """

    def __init__(self, parts: Sequence[tuple[str, Encoding]]) -> None:
        first = parts[0][1]
        super().__init__(first.heads, first.head_dim, first.dim)
        self.parts = nn.ModuleDict(dict(parts))
        biased = [name for name, part in parts if brings_bias(type(part))]
        for owns, what in ((False, "bring a bias: a composition takes one"), (True, "own the logits: only one can")):
            rivals = [name for name in biased if self.part(name).owns is owns]
            if len(rivals) > 1:
                raise UserError(f"'{rivals[0]}' and '{rivals[1]}' both {what}")
        for name, part in parts:
            readers = [other for other, reader in parts if reader.reads_content and other != name]
            if part.rewrites_keys and readers:
                raise UserError(f"'{readers[0]}' reads q or k, and '{name}' rewrites keys while decoding: choose one")
            others = [other for other, rival in parts if other != name and needs_heads_width(rival)]
            if part.widens and others:
                raise UserError(f"'{others[0]}' turns or reads q and k, and '{name}' makes them wider: choose one")
        #: those that scale last: a norm or a softplus after them would undo or bend the factor.
        self.turners = sorted(self.parts, key=lambda name: self.part(name).acts_on_products)
        #: the one that owns the logits first.
        self.biased = sorted(biased, key=lambda name: not self.part(name).owns)
        self.wrappers = [name for name, part in parts if part.wraps]

    def part(self, name: str) -> Encoding:
        """The part called `name`."""
        part = self.parts[name]
        assert isinstance(part, Encoding)
        return part

    def members(self) -> Iterator[tuple[str, Encoding]]:
        """The parts by name, in order."""
        return ((name, self.part(name)) for name in self.parts)

    def exemptions(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, part in self.members():
            found |= {clause: f"'{name}': {why}" for clause, why in part.exemptions().items()}
            turners = [other for other, turner in self.members() if other != name and turns(type(turner))]
            if part.reads_content and turners:
                found["translation"] = f"'{name}' reads what '{turners[0]}' has turned by the index"
        return found

    def settle(self, site: Site) -> None:
        super().settle(site)
        for _, part in self.members():
            part.settle(site)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, carry: Any) -> Transformed:
        carries: dict[str, Any] = dict(carry or {})
        outputs = []
        for name in self.turners:
            found = self.part(name).transform(q, k, v, x=x, context=context, carry=carries.get(name))
            q, k, v, carries[name], output = found
            if output is not None:
                outputs.append(output)

        def undo(y: Tensor) -> Tensor:
            for output in reversed(outputs):
                y = output(y)
            return y

        return Transformed(q, k, v, carries, undo if outputs else None)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        pasts = past.parts if isinstance(past, Stacked) else {}
        if len(self.biased) == 1 and not self.wrappers:
            return self.part(self.biased[0]).bias(x, past, context)
        before = 0 if past is None else past.shape[-1]
        found = {name: self.part(name).bias(x, pasts.get(name), context) for name in self.biased}
        none = NoBias(self.heads, x.size(1), before + x.size(1), x.device)
        first, *rest = found.values() or [none]
        whole = Summed(first, rest[0]) if rest else first
        for name in self.wrappers:
            whole = self.part(name).around(whole, x, context)
        return Stacked(whole, found) if found else whole

    def hand_on(self, update: Tensor, context: Context) -> None:
        for _, part in self.members():
            part.hand_on(update, context)
