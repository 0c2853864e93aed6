"""Attention under a bias: exact back ends, and the choice between them.

    cpu-row     one query under a formula of single pairs, compiled
    decode      one query: its row of logits
    triton      such a formula on a GPU: kernels generated from it
    fla         logits through Householder steps on a GPU: kernels of flash-linear-attention
    cpu-fused   such a formula, compiled into the loop between the two products
    fold        extra columns of q and k, then the stock fused attention
    ...         those of other packages
    cpu-tiles   tiles, on all cores
    flex        a fused kernel that a compiler makes of the bias's formula: on a GPU, where nothing is trained
    tiles       blocks of query rows, recomputed in the backward pass; serves everything, anywhere
    reference   the plain formula with the whole matrix; the specification

`attend_under` is all that somebody else's attention needs: a layer's encoding, and q, k, v. `attend_encoded` takes what
`Encoding.encode` gives, also while decoding, and `attend` a bias that is the whole of its scheme.

Every back end takes the same Bias; none knows a named encoding. `cpu/` and `gpu/` are private wings: without the
folders and their lines here, all else works as it does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from extrapo.attention.backend import Backend, StepsAside, Verdict, of_other_packages, registered
from extrapo.attention.cpu.fused import CPUFused  # the wing
from extrapo.attention.cpu.row import CPURow  # the wing
from extrapo.attention.cpu.tiles import CPUTiles  # the wing
from extrapo.attention.decode import Decode
from extrapo.attention.flex import Flex
from extrapo.attention.fold import Fold
from extrapo.attention.gpu.fused import Triton  # the wing
from extrapo.attention.gpu.path import Fla  # the wing
from extrapo.attention.reference import Reference
from extrapo.attention.tiles import Tiles
from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoded, Encoding
from extrapo.errors import MachineError, UserError, unknown

__all__ = [
    "BACKENDS",
    "Backend",
    "Choice",
    "StepsAside",
    "Verdict",
    "attend",
    "attend_encoded",
    "attend_under",
    "backend",
    "check_impl",
    "choose",
]

#: In order: the first that serves and pays is taken. A new back end has its place here; those of other packages come
#: before what serves anything.
SPECIAL: tuple[Backend, ...] = (
    CPURow(),  # the wing
    Decode(),
    Triton(),  # the wing
    Fla(),  # the wing
    CPUFused(),  # the wing
    Fold(),
)
GENERAL: tuple[Backend, ...] = (
    CPUTiles(),  # the wing
    Flex(),
    Tiles(),
    Reference(),
)

#: All of them: made at the first use, for those packages import this one.
BACKENDS: tuple[Backend, ...]


def __getattr__(name: str) -> object:
    if name != "BACKENDS":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return globals().setdefault(name, (*SPECIAL, *of_other_packages((*SPECIAL, *GENERAL)), *GENERAL))


def backends() -> tuple[Backend, ...]:
    """BACKENDS as it is by now."""
    return sys.modules[__name__].BACKENDS  # type: ignore[no-any-return]


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
    for candidate in backends():
        if candidate.name == name:
            return candidate
    if (broken := registered.broken.get(name)) is not None:
        raise UserError(broken)
    raise unknown("impl", name, ["auto", *(candidate.name for candidate in backends())])


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
    return next(choices(bias, q, k, impl))


def choices(bias: Bias, q: Tensor, k: Tensor, impl: str) -> Iterator[Choice]:
    """The one asked for; or all that serve and pay, in their order."""
    if impl != "auto":
        asked = backend(impl)
        verdict = asked.serves(bias, q, k)
        if verdict:
            yield Choice(asked, "asked for")
            return
        # While decoding, a model goes on by what serves one query.
        if q.size(-2) > 1:
            raise UserError(f"impl '{impl}' cannot serve here: {verdict.reason}; use 'auto'")
    for candidate in backends():
        if candidate.pays(bias, q, k) and (verdict := candidate.serves(bias, q, k)):
            yield Choice(candidate, verdict.reason)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias,
    *,
    scale: float,
    impl: str = "auto",
) -> Tensor:
    """Causal attention with the logits of a bias, softmax(s q.k + b) v for most.

    Args:
        q: (B, H, T, d) queries, the last T of S tokens.
        k: (B, H, S, d) keys.
        v: (B, H, S, e) values.
        bias: the layer's bias for these T queries and S keys, as `Encoding.encode` gives it; or as `Encoding.bias` does
            where that is all of the scheme.
        scale: s.
        impl: `auto`, or a name of BACKENDS.

    Returns:
        (B, H, T, e).

    Raises:
        UserError: a part of a scheme, such as the bias of one that turns q and k as well; or `choose`'s.
        MachineError: the back end that was asked for found out that it cannot serve.
    """
    if bias.left_out:
        steps = " and ".join(sorted(bias.left_out))
        raise UserError(f"this bias is a part of its scheme, which has {steps} besides: attend_under does all of it")
    failed: StepsAside | None = None
    for choice in choices(bias, q, k, impl):
        try:
            return choice.backend(q, k, v, bias, scale=scale)
        except StepsAside as cause:
            failed = cause
    raise MachineError(f"impl '{impl}' cannot serve here: {failed}; use 'auto'") from failed


def attend_encoded(encoded: Encoded, *, scale: float, impl: str = "auto") -> Tensor:
    """`attend` with all that `Encoding.encode` gave: the scheme's q, k, v, bias and what becomes of the output.

    Args:
        encoded: of T queries and S keys.
        scale, impl: see `attend`.

    Returns:
        (B, H, T, d).
    """
    return encoded.output(attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=scale, impl=impl))


def attend_under(
    encoding: Encoding,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    x: Tensor,
    context: Context | None = None,
    scale: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Causal attention under an encoding, in place of F.scaled_dot_product_attention(q, k, v, is_causal=True).

    Args:
        encoding: of this layer, `encodings.create(name, heads=H, head_dim=d, dim=D)`.
        q, k, v: (B, H, T, d) projections of `x`, without any encoding of positions.
        x: (B, T, D) the layer's input, after its norm.
        context: where the tokens stand; None is 0, 1, 2, ...
        scale: s; None is 1/sqrt(d).
        impl: see `attend`.

    Returns:
        (B, H, T, d).

    Raises:
        UserError: shapes that do not fit; without a context, a scheme that also acts outside the layer.
    """
    encoding.spec.check_shapes(q, k, v, x)
    if context is None and (outside := encoding.besides_bias() - {"transform"}):
        steps = " and ".join(sorted(outside))
        raise UserError(f"this encoding has {steps} outside the layer besides: call that, and pass a context")
    scale = 1 / math.sqrt(q.size(-1)) if scale is None else scale
    return attend_encoded(encoding.encode(q, k, v, x=x, context=context), scale=scale, impl=impl)
