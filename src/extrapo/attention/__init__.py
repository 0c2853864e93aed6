"""Attention under a bias: exact back ends, and the choice between them.

    decode      one query: its row of logits
    cpu-fastest the one of the next three that was measured to be the fastest on this machine
    cpu-fold    what the fused kernel of a CPU does for a bias of low rank
    fold        extra columns of q and k, then the stock fused attention
    cpu-tiles   tiles in compiled loops and threads
    tiles       blocks of query rows, recomputed in the backward pass; serves everything, anywhere
    flex        a fused kernel that a compiler makes of the bias's formula; only where it is asked for
    reference   the plain formula with the whole matrix; the specification

Every back end takes the same Bias; none knows a named encoding. `cpu/` is a private wing: without the folder and its
lines here, all else works as it does.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from extrapo.attention.backend import Backend, Verdict, force_compile
from extrapo.attention.cpu.fastest import FastestOnCPU  # the wing
from extrapo.attention.cpu.fold import CPUFold  # the wing
from extrapo.attention.cpu.tiles import CPUTiles  # the wing
from extrapo.attention.decode import Decode
from extrapo.attention.flex import Flex
from extrapo.attention.fold import Fold
from extrapo.attention.pruned import pruned
from extrapo.attention.reference import Reference
from extrapo.attention.tiles import Tiles
from extrapo.encodings.core.bias import Bias
from extrapo.errors import UserError, unknown

__all__ = ["BACKENDS", "Backend", "Choice", "Verdict", "attend", "backend", "check_impl", "choose", "force_compile"]

#: In order: the first that serves is taken. A new back end is a line here.
BACKENDS: tuple[Backend, ...] = (
    Decode(),
    FastestOnCPU(),  # the wing
    CPUFold(),  # the wing
    Fold(),
    CPUTiles(),  # the wing
    Tiles(),
    Flex(),
    Reference(),
)


class Choice(NamedTuple):
    """The back end that serves, and why."""

    backend: Backend
    reason: str

    @property
    def impl(self) -> str:
        """Its name."""
        return self.backend.name


def backend(name: str) -> Backend:
    """The back end called `name`; UserError where there is none."""
    for known in BACKENDS:
        if known.name == name:
            return known
    raise unknown("impl", name, ["auto", *(known.name for known in BACKENDS)])


def check_impl(name: str) -> None:
    """Raise UserError unless `name` is `auto` or that of a back end."""
    if name != "auto":
        backend(name)


def choose(bias: Bias, q: Tensor, k: Tensor, impl: str = "auto") -> Choice:
    """The first back end that serves, or the one asked for.

    Args:
        bias: the layer's bias, bound to q and k.
        q, k: (B, H, T, d) queries and (B, H, S, d) keys.
        impl: `auto`, or a back end's name.

    Raises:
        UserError: an unknown name, or one that cannot serve.
    """
    if impl != "auto":
        asked = backend(impl)
        verdict = asked.serves(bias, q, k)
        if verdict:
            return Choice(asked, "asked for") if verdict.backend is None else Choice(verdict.backend, verdict.reason)
        # While decoding, a model goes on by what serves one query.
        if q.size(-2) > 1:
            raise UserError(f"impl '{impl}' cannot serve here: {verdict.reason}; use 'auto'")
    verdicts = ((candidate, candidate.serves(bias, q, k)) for candidate in BACKENDS)
    return next(Choice(verdict.backend or candidate, verdict.reason) for candidate, verdict in verdicts if verdict)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias,
    *,
    scale: float,
    impl: str = "auto",
    skip: float | None = None,
) -> Tensor:
    """Causal attention with the logits of a bias, softmax(s q.k + b) v for most.

    Args:
        q: (B, H, T, d) queries, the last T of S tokens.
        k: (B, H, S, d) keys.
        v: (B, H, S, e) values.
        bias: the layer's bias for these T queries and S keys, as `Encoding.encode` gives it.
        scale: s.
        impl: `auto`, or a name of BACKENDS.
        skip: leave out far keys that together weigh at most this much of 1, see `pruned`; None is exact.

    Returns:
        (B, H, T, e).
    """
    if skip is not None:
        return pruned(q, k, v, bias, scale, skip)
    return choose(bias, q, k, impl).backend(q, k, v, bias, scale=scale)
