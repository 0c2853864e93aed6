"""Biases made of another one, their host: whatever a subclass does not say is as the host has it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from extrapo.encodings.core.bias import Bias, Elementwise, Rowwise
from extrapo.encodings.core.logit import Logit
from extrapo.encodings.core.visibility import Visibility


@dataclass(frozen=True)
class HostedRows(Rowwise):
    """A bias whose rows are made of its host's.

    Args:
        host: the other bias.
    """

    host: Bias

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.host.shape

    def visibility(self) -> Visibility | None:
        return self.host.visibility()

    def added(self, rows: slice) -> Tensor:
        return self.host.added(rows)

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        return self.bound_to(replace(self, host=self.host.bind(q, k)))

    @property
    def needs_binding(self) -> bool:
        return self.host.needs_binding

    def rewrite_keys(self, k: Tensor) -> Tensor:
        return self.host.rewrite_keys(k)

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return self.host.score_rows(q, k, scale, rows)

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        return self.host.mix(logits, v, rows)


@dataclass(frozen=True)
class LimitedRows(HostedRows):
    """A rowwise bias of which queries see less.

    Args:
        seen: what they see.
    """

    seen: Visibility

    @property
    def additive(self) -> bool:
        return self.host.additive

    def visibility(self) -> Visibility:
        return self.seen

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        # What is rowwise until it knows q and k may be elementwise then.
        return self.bound_to(limited(self.host.bind(q, k), self.seen))


@dataclass(frozen=True)
class Limited(Elementwise):
    """An elementwise bias of which queries see less.

    Args:
        host: the other bias.
        seen: what they see.
    """

    host: Elementwise
    seen: Visibility

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.host.shape

    @property
    def logit(self) -> Logit:
        return self.host.logit

    def visibility(self) -> Visibility:
        return self.seen

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return self.host.factors(rows)

    def pointwise(self) -> bool:
        return self.host.pointwise()

    def cached_line(self) -> tuple[Tensor | None, Tensor] | None:
        return self.host.cached_line()

    def toeplitz(self) -> bool:
        return self.host.toeplitz()

    def known_toeplitz(self) -> bool:
        return self.host.known_toeplitz()

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        return self.bound_to(limited(self.host.bind(q, k), self.seen))

    @property
    def needs_binding(self) -> bool:
        return self.host.needs_binding

    def whole_text(self) -> Elementwise:
        return replace(self, host=self.host.whole_text())

    def wide_formula(self) -> tuple[Logit, tuple[Tensor, ...]] | None:
        return self.host.wide_formula()


def limited(bias: Bias, seen: Visibility) -> Bias:
    """The same bias, of which queries see no more than this."""
    seen = seen.within(bias.visibility())
    return Limited(bias, seen) if isinstance(bias, Elementwise) else LimitedRows(bias, seen)
