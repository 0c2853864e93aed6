"""Encoding: one layer's positional encoding. Each step does nothing unless the scheme has it.

    source         once, at the bottom of the model     where tokens stand: sampled, segmented
    embedding      once, at the bottom of the model     sinusoidal, learned
    transform      q, k (and v, and the output)         rotations
    bias           from the layer's input               ALiBi, Cable, ... (rowwise: CoPE, PaTH, ...)
    wrap           another scheme's bias                windows, stick-breaking
    update_shared  for the next layer, after the MLP    TAPE

`encode` puts them together, and is their only caller; a scheme that holds another one asks that in its own steps. To
bring your own, subclass Encoding in a file of your own and decorate it with `@extrapo.encodings.register("name")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, ClassVar, Literal, NamedTuple, final

from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.encodings.core.cache import Cache
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError
from extrapo.registry import Registry

Certainty = Literal["certain", "reconstruction"]

#: What its bias is to others: it adds one to the logits, owns the logits, or wraps the bias of others.
BiasKind = Literal["none", "adds", "owns", "wraps"]

#: What it does with q and k: nothing; makes its bias of single components of them; turns them; makes them wider than a
#: head; rewrites the keys that decoding keeps; or scales their products, whatever the width, after all that turn them.
QueryKey = Literal["untouched", "read", "rotated", "wider", "rewritten", "scaled"]


@dataclass(frozen=True)
class Paper:
    """What the catalogue says of an encoding.

    Args:
        source: the paper, with its arXiv number.
        positions: `index` or `contextual`, or `-`.
        transform: the change of q and k, or `-`.
        kernel: the default kernel's name, or `-`.
        summary: one line; says "reconstruction" where the paper's own text was not the source.
        year: of the first version.
        contextual: whether what is added or turned depends on the tokens; None is where the positions do.
        state: what decoding keeps per token besides k and v, or `-`.
        certainty: `certain` where the paper or its authors' code was read, or `reconstruction`.
    """

    source: str
    positions: str = "-"
    transform: str = "-"
    kernel: str = "-"
    summary: str = ""
    year: int | None = None
    contextual: bool | None = None
    state: str = "-"
    certainty: Certainty = "certain"

    @property
    def is_contextual(self) -> bool:
        """Whether what it does depends on the tokens."""
        return self.positions == "contextual" if self.contextual is None else self.contextual


#: The steps that say nothing of a bias; all but `transform` are outside the layer: at the bottom of the model, or after
#: the MLP.
OTHER_STEPS = frozenset({"source", "embedding", "transform", "update_shared"})
STEPS = OTHER_STEPS | {"bias", "wrap"}


def unchanged(y: Tensor) -> Tensor:
    """What most schemes do to the attention's output: nothing."""
    return y


class Transformed(NamedTuple):
    """What `transform` gives back."""

    q: Tensor  # (B, H, T, d')
    k: Tensor  # (B, H, T, d')
    v: Tensor  # (B, H, T, e)
    state: Any = None  # what the next step of decoding needs: tensors, or nothing
    output: Callable[[Tensor], Tensor] = unchanged  # (B, H, T, e) -> (B, H, T, d), on the attention's output


@dataclass(frozen=True)
class LayerState:
    """What one layer keeps between steps of decoding.

    Args:
        keys: of (B, H, S, d'), as attention saw them, transformed.
        values: of (B, H, S, e).
        biases: the last step's bias of each part by name, which holds the positions of all S tokens.
        transform: what the transform keeps.
    """

    keys: Cache
    values: Cache
    biases: Mapping[str, Bias]
    transform: Any

    def rewritten_keys(self) -> Cache:
        """The keys as the next step must find them: a scheme may rewrite past ones."""
        rewritten = stored = self.keys.tokens
        for bias in self.biases.values():
            rewritten = bias.rewrite_keys(rewritten)
        return self.keys if rewritten is stored else Cache(rewritten)


class Encoded(NamedTuple):
    """What attention needs of T new tokens, the last of S, and what decoding keeps: `output(attend(q, k, v, bias))`."""

    q: Tensor  # (B, H, T, d')
    k: Tensor  # (B, H, S, d')
    v: Tensor  # (B, H, S, e)
    bias: Bias  # bound to q and k
    state: LayerState
    output: Callable[[Tensor], Tensor]  # (B, H, T, e) -> (B, H, T, d)


def saying_what_it_leaves_out(method: Callable[..., Bias]) -> Callable[..., Bias]:
    """A scheme's `bias`, whose value says which other steps the scheme has: by itself it would be another scheme."""

    @wraps(method)
    def bias(self: Encoding, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        value = method(self, x, past, context)
        unbound = {"bind"} if value.needs_binding else set()
        return value.leaving_out(value.left_out | self.besides_bias() | unbound)

    return bias


class Encoding(nn.Module):
    """The positional encoding of one attention layer, whole once it is built.

    Args:
        spec: the layer's shape, and where it stands.
    """

    paper: ClassVar[Paper] = Paper("-")
    #: whether it can be given a kernel: where the scheme has a distance to apply one to.
    takes_kernel: ClassVar[bool] = False
    #: the steps that a class, or one that it inherits from, has of its own: of STEPS.
    own_steps: ClassVar[frozenset[str]] = frozenset()
    #: `adds` where a class has a `bias` and does not say otherwise.
    bias_kind: ClassVar[BiasKind] = "none"
    #: `rotated` where a class has a `transform` and does not say otherwise.
    query_key: ClassVar[QueryKey] = "untouched"
    #: whether it acts on the bias before others that wrap it: where it says anew what the distances are.
    wraps_first: ClassVar[bool] = False
    #: whether all layers use one module, unless the configuration says otherwise.
    shared_by_layers: ClassVar[bool] = False
    #: whether the logits stay the same when all tokens stand later in a text by the same number of places.
    translation_invariant: ClassVar[bool] = True
    #: clauses of extrapo.testing.EncodingContract that it cannot satisfy: clause -> why.
    exempt: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        owners = {step: next(base for base in cls.__mro__ if step in vars(base)) for step in STEPS}
        cls.own_steps = frozenset(step for step, owner in owners.items() if owner is not Encoding)
        if owners["bias"] is cls or not issubclass(owners["bias"], Encoding):
            # Its own, or a mix-in's.
            cls.bias = saying_what_it_leaves_out(cls.bias)  # type: ignore[method-assign]
        if cls.bias_kind == "none" and cls.own_steps & {"bias", "wrap"}:
            cls.bias_kind = "adds" if "bias" in cls.own_steps else "wraps"
        if cls.query_key == "untouched" and "transform" in cls.own_steps:
            cls.query_key = "rotated"

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        #: those of its steps that its options leave without effect.
        self.idle_steps: frozenset[str] = frozenset()

    @property
    def heads(self) -> int:
        """Number of heads H."""
        return self.spec.heads

    @property
    def head_dim(self) -> int:
        """Width of a head d."""
        return self.spec.head_dim

    @property
    def dim(self) -> int:
        """Model width D."""
        return self.spec.dim

    # -- what a scheme may say -----------------------------------------------------------------------------------

    def source(self) -> nn.Module | None:
        """A module that says where tokens stand, (tokens, start, state) -> Positions; None for 0, 1, 2, ...

        The model makes one, of its first layer's encoding, and asks it once per pass. `tokens` is (B, T), `start` the
        number of tokens before them, `state` what it returned at the step before while decoding.
        """
        return None

    def embedding(self) -> nn.Module | None:
        """A module that maps token embeddings (B, T, D) and their Context to embeddings with positions.

        The model makes one, of its first layer's encoding, and applies it once; None for schemes that act in layers.
        """
        return None

    def place(self, context: Context) -> Context:
        """Where this layer finds the tokens to stand, for schemes in which layers disagree."""
        return context

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        """Change the queries, keys and values of the tokens of one pass.

        Args:
            q, k, v: (B, H, T, d) projections of `x`.
            x: (B, T, D) the layer's input, after its norm.
            context: where the tokens stand.
            state: what the previous call returned while decoding, None at the start.
        """
        return Transformed(q, k, v, state)

    @saying_what_it_leaves_out
    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        """The bias of the tokens of `x` as queries over all tokens so far as keys.

        Args:
            x: (B, T, D) the layer's input, after its norm.
            past: while decoding, the bias of the tokens before `x`, which holds their positions.
            context: where the tokens stand; None is right after those of `past`.
        """
        before = 0 if past is None else past.shape[-1]
        return self.wrap(NoBias(self.heads, x.size(1), before + x.size(1), x.device), x, context)

    def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        """What this scheme makes of the bias of the others in a composition (or of none)."""
        return bias

    def update_shared(self, update: Tensor, context: Context) -> None:
        """Leave something for the next layer in `context.shared`, given the MLP's output (B, T, D)."""

    def besides_bias(self) -> frozenset[str]:
        """The steps of the scheme besides its bias, of OTHER_STEPS."""
        return (self.own_steps & OTHER_STEPS) - self.idle_steps

    def exemptions(self) -> dict[str, str]:
        """The clauses of the contract that it cannot satisfy as it was built: clause -> why."""
        return self.exempt

    # -- what a model asks ---------------------------------------------------------------------------------------

    @final
    def encode(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        x: Tensor,
        context: Context | None = None,
        state: LayerState | None = None,
    ) -> Encoded:
        """All that attention needs: `encoded.output(attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=s))`.

        Args:
            q, k, v: (B, H, T, d) projections of `x`.
            x: (B, T, D) the layer's input, after its norm.
            context: where the tokens stand; None is 0, 1, 2, ..., or right after those of `state`.
            state: while decoding, what the step before returned.
        """
        if context is None:
            context = Context.plain(x, 0 if state is None else state.keys.length)
        context = self.place(context)
        transformed = self.transform(q, k, v, x=x, context=context, state=None if state is None else state.transform)
        bias, biases = self._bias_of_parts(x, None if state is None else state.biases, context)
        if state is None:
            keys, values = Cache(transformed.k), Cache(transformed.v)
        else:
            keys, values = state.rewritten_keys().append(transformed.k), state.values.append(transformed.v)
        # Nothing is left out any more: the whole scheme has had its turn.
        bound = bias.bind(transformed.q, keys.tokens).leaving_out(frozenset())
        new_state = LayerState(keys, values, biases, transformed.state)
        return Encoded(transformed.q, keys.tokens, values.tokens, bound, new_state, transformed.output)

    def _bias_of_parts(
        self, x: Tensor, past: Mapping[str, Bias] | None, context: Context | None
    ) -> tuple[Bias, Mapping[str, Bias]]:
        """The whole bias, and that of each part by name, which the next step of decoding finds as its past."""
        bias = self.bias(x, None if past is None else past[""], context)
        return bias, {"": bias}

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


def refuse_contradictions(name: str, cls: type[Encoding]) -> None:
    """UserError where what a class says of itself is not what it does."""
    needed = {"adds": "bias", "owns": "bias", "wraps": "wrap"}.get(cls.bias_kind)
    cause = ""
    if {"bias", "wrap"} <= cls.own_steps:
        cause = "has both `bias` and `wrap`: it brings a bias, or makes something of that of others"
    elif needed is not None and needed not in cls.own_steps:
        cause = f"says bias_kind = '{cls.bias_kind}' and has no `{needed}`"
    elif cls.query_key in ("rotated", "wider") and "transform" not in cls.own_steps:
        cause = f"says query_key = '{cls.query_key}' and has no `transform`"
    elif not takes_a_spec(cls):
        cause = "is not made by `__init__(self, spec, *, options)`, where every option has a default"
    if cause:
        raise UserError(f"encoding '{name}': {cls.__name__} {cause}")


def takes_a_spec(cls: type[Encoding]) -> bool:
    """Whether a class can be made of a layer's spec alone."""
    try:
        signature(cls.__init__).bind(None, None)
    except TypeError:
        return False
    return True


encodings: Registry[Encoding] = Registry("encoding", "extrapo.encodings", refuse_contradictions)
