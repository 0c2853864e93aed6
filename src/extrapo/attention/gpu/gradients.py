"""Gradients: what the backward kernels write of trained factors, and what comes back to each tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Size, Tensor

from extrapo.attention.gpu.formulas import recorded, tensor_of_factor
from extrapo.attention.recorded.kinds import Kind


@dataclass(frozen=True)
class Gradients:
    """Of numbers of a head, of lines, and of what there is a number of for each query or key.

    Args:
        places: of each of the formula's factors, and of turns, which are one more line, which tensor it is.
        factors: that tensor; two are the same where a position is that of a query and of a key.
        kinds, wide: see Reading.
        trained: which factors get gradients.
    """

    places: tuple[int, ...]
    factors: tuple[Tensor, ...]
    kinds: tuple[Kind, ...]
    wide: bool
    trained: tuple[bool, ...]

    @classmethod
    def of(cls, name: str, trained: str, tensors: Sequence[Tensor]) -> Self:
        """Those of a formula, by its name."""
        formula = recorded(name)
        places = tensor_of_factor(len(tensors) - formula.turned, len(trained))
        kinds = (*formula.kinds, Kind.LINE) if formula.turned else formula.kinds
        return cls(places, tuple(tensors[n] for n in places), kinds, formula.wide, tuple(one == "1" for one in trained))

    def of_kinds(self, *kinds: Kind) -> list[int]:
        """Trained factors."""
        return [n for n, kind in enumerate(self.kinds) if self.trained[n] and kind in kinds]

    @property
    def shared(self) -> bool:
        """Whether positions of queries and keys are one tensor, and have one gradient."""
        return self.wide and self.factors[0] is self.factors[1]

    @property
    def own(self) -> list[int]:
        """Trained factors of queries or keys, one of those that share a gradient."""
        return [n for n in self.of_kinds(Kind.ROW, Kind.COLUMN) if not (self.shared and n == 1)]

    def one_text(self, kind: Kind) -> bool:
        """Whether trained factors of a kind are the same for all texts of the batch."""
        return all(self.factors[n].size(0) == 1 for n in self.of_kinds(kind))

    def written(self, like: Tensor, blocks: int, keys: int) -> tuple[dict[int, Tensor], Tensor, Tensor]:
        """What kernels write to, by factor; of numbers and of lines all in one, to be added up.

        Args:
            like: (B, H, T) in float32.
            blocks: of queries.
            keys: S.
        """
        batch, heads, queries = like.shape
        numbers, lines = self.of_kinds(Kind.NUMBER), self.of_kinds(Kind.LINE)
        parts = like.new_empty(len(numbers), batch, heads, blocks)
        halves = like.new_empty(len(lines), batch, heads, 2, keys)
        found = dict(zip(numbers, parts, strict=True)) | dict(zip(lines, halves, strict=True))
        for n in self.own:
            size = queries if self.kinds[n] == Kind.ROW else keys
            # The kernel of keys takes its part from what is there already.
            make = like.new_zeros if self.wide and n == 1 else like.new_empty
            found[n] = make(batch, heads, size, dtype=self.factors[n].dtype)
        if self.shared and self.trained[1]:
            found[1] = found[0]
        return found, parts, halves

    def summed(self, found: dict[int, Tensor], parts: Tensor, halves: Tensor) -> list[Tensor]:
        """What there is of gradients in all, once the kernels have written: see `shapes`."""
        sums = [(x, kind) for x, kind in ((parts, Kind.NUMBER), (halves, Kind.LINE)) if x.size(0)]
        return [x.sum((1, 3) if self.one_text(kind) else 3) for x, kind in sums] + [found[n] for n in self.own]

    def shapes(self, like: Tensor, keys: int) -> list[Tensor]:
        """What `summed` gives, without its numbers: (P, H) or (P, B, H) of numbers, (P, H, S) or (P, B, H, S) of lines,
        and (B, H, n) of the others.
        """
        batch, heads, queries = like.shape
        made = []
        for kind, size in ((Kind.NUMBER, []), (Kind.LINE, [keys])):
            if of_kind := self.of_kinds(kind):
                texts = [] if self.one_text(kind) else [batch]
                made.append(like.new_empty(len(of_kind), *texts, heads, *size))
        sizes = {Kind.ROW: queries, Kind.COLUMN: keys}
        return made + [
            like.new_empty(batch, heads, sizes[self.kinds[n]], dtype=self.factors[n].dtype) for n in self.own
        ]

    def returned(self, summed: Sequence[Tensor]) -> dict[int, Tensor]:
        """The gradients by factor, in the shape of its tensor."""
        rest: Iterator[Tensor] = iter(summed)
        found = {}
        for kind in (Kind.NUMBER, Kind.LINE):
            if of_kind := self.of_kinds(kind):
                for n, x in zip(of_kind, next(rest).unbind(0), strict=True):
                    heads, last = (x.size(-1), 1) if kind == Kind.NUMBER else x.shape[-2:]
                    found[n] = fit(x.reshape(-1, heads, 1, last), self.factors[n].shape).to(self.factors[n].dtype)
        for n in self.own:
            x, shape = next(rest), self.factors[n].shape
            found[n] = fit(x if len(shape) < 4 else x.unsqueeze(-1 if self.kinds[n] == Kind.ROW else -2), shape)
        return found


def fit(x: Tensor, shape: Size) -> Tensor:
    """Summed over what is one for all."""
    return x if x.shape == shape else x.sum_to_size(shape)
