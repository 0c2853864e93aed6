"""Composition by name, `rope+k-cable`: any transform with any bias, the grid that no single paper has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, NoBias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Transformed
from extrapo.encodings.core.visibility import Visibility
from extrapo.errors import UserError


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
class Summed(Rowwise):
    """The logits of a scheme that owns them, plus the bias of one that adds.

    Args:
        owner: makes the logits and mixes the values.
        adder: what is added to them.
    """

    owner: Bias
    adder: Bias

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self.owner.shape
        return max(batch, self.adder.shape[0]), heads, queries, keys

    def added(self, rows: slice) -> Tensor:
        return self.owner.added(rows) + self.adder.added(rows)

    def visibility(self) -> Visibility | None:
        return self.owner.visibility()

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        return self.bound_to(Summed(self.owner.bind(q, k), self.adder.bind(q, k)))

    @property
    def needs_binding(self) -> bool:
        return self.owner.needs_binding or self.adder.needs_binding

    def rewrite_keys(self, k: Tensor) -> Tensor:
        return self.owner.rewrite_keys(k)

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return self.owner.score_rows(q, k, scale, rows) + self.adder.added(rows)

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        return self.owner.mix(logits, v, rows)


def reads(encoding: Encoding) -> bool:
    """Whether it makes its bias of single components of q or k, so that another scheme's turn of them shows in it."""
    return encoding.query_key in ("read", "wider", "rewritten")


def turns(encoding: Encoding) -> bool:
    """Whether it changes the direction of q and k."""
    return encoding.query_key in ("rotated", "wider")


def needs_heads_width(encoding: Encoding) -> bool:
    """Whether it turns or reads q and k of a head's width."""
    if encoding.query_key == "scaled":
        return False
    return reads(encoding) or turns(encoding) or encoding.bias_kind == "owns"


class Composed(Encoding):
    """The transforms of all parts, in order, those that scale last; one bias that is added, one that owns the logits;
    then what wraps them, first those that change the distances themselves.

    Args:
        parts: the encodings, by registry name, all of one layer.

    Raises:
        UserError: two parts that add a bias, or two that own the logits; one that reads keys another rewrites; one that
            turns or reads q and k of a head's width where another makes them wider.
    """

    def __init__(self, parts: Mapping[str, Encoding]) -> None:
        super().__init__(next(iter(parts.values())).spec)
        self.parts = nn.ModuleDict(parts)
        self._refuse_rivals()
        #: those that scale last: a norm or a softplus after them would undo or bend the factor.
        self.turners = sorted(self.parts, key=lambda name: self.part(name).query_key == "scaled")
        #: the one that owns the logits first.
        self.biased = [*self._of_kind("owns"), *self._of_kind("adds")]
        #: those that change distances first: of a bias with a limit, or of sticks, these could not be told any more.
        self.wrappers = sorted(self._of_kind("wraps"), key=lambda name: not self.part(name).wraps_first)

    def _of_kind(self, kind: str) -> list[str]:
        return [name for name, part in self.members() if part.bias_kind == kind]

    def _refuse_rivals(self) -> None:
        for kind, what in (("adds", "bring a bias: a composition takes one"), ("owns", "own the logits: only one can")):
            if len(rivals := self._of_kind(kind)) > 1:
                raise UserError(f"'{rivals[0]}' and '{rivals[1]}' both {what}")
        for name, part in self.members():
            others = [(other, rival) for other, rival in self.members() if other != name]
            readers = [other for other, rival in others if reads(rival)]
            if part.query_key == "rewritten" and readers:
                raise UserError(f"'{readers[0]}' reads q or k, and '{name}' rewrites keys while decoding: choose one")
            narrow = [other for other, rival in others if needs_heads_width(rival)]
            if part.query_key == "wider" and narrow:
                raise UserError(f"'{narrow[0]}' turns or reads q and k, and '{name}' makes them wider: choose one")

    def part(self, name: str) -> Encoding:
        """The part called `name`."""
        part = self.parts[name]
        assert isinstance(part, Encoding)
        return part

    def members(self) -> Iterator[tuple[str, Encoding]]:
        """The parts by name, in order."""
        return ((name, self.part(name)) for name in self.parts)

    def besides_bias(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.besides_bias() for _, part in self.members()))

    def exemptions(self) -> dict[str, str]:
        clauses: dict[str, str] = {}
        for name, part in self.members():
            clauses |= {clause: f"'{name}': {why}" for clause, why in part.exemptions().items()}
            turners = [other for other, turner in self.members() if other != name and turns(turner)]
            if reads(part) and turners:
                clauses["translation"] = f"'{name}' reads what '{turners[0]}' has turned by the index"
        return clauses

    def place(self, context: Context) -> Context:
        for _, part in self.members():
            context = part.place(context)
        return context

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        states: dict[str, Any] = dict(state or {})
        outputs: list[Callable[[Tensor], Tensor]] = []
        for name in self.turners:
            q, k, v, states[name], output = self.part(name).transform(
                q, k, v, x=x, context=context, state=states.get(name)
            )
            outputs.append(output)

        def undo(y: Tensor) -> Tensor:
            for output in reversed(outputs):
                y = output(y)
            return y

        return Transformed(q, k, v, states, undo)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        if past is not None:
            raise UserError("the parts of a composition decode through `encode`, each with a past of its own")
        return self._bias_of_parts(x, None, context)[0]

    def _bias_of_parts(
        self, x: Tensor, past: Mapping[str, Bias] | None, context: Context | None
    ) -> tuple[Bias, Mapping[str, Bias]]:
        pasts = past or {}
        biases = {name: self.part(name).bias(x, pasts.get(name), context) for name in self.biased}
        if not biases:
            start = 0 if context is None else context.start
            biases = {"": NoBias(self.heads, x.size(1), start + x.size(1), x.device)}
        first, *rest = biases.values()
        whole = Summed(first, rest[0]) if rest else first
        for name in self.wrappers:
            whole = self.part(name).wrap(whole, x, context)
        return whole, biases

    def update_shared(self, update: Tensor, context: Context) -> None:
        for _, part in self.members():
            part.update_shared(update, context)
