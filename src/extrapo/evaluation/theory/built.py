"""An encoding as theory looks at it: one layer by itself, at its starting values, on inputs that say nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

from extrapo.encodings import Context, Encoding, LayerSpec, NoBias, Positions
from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.visibility import hidden
from extrapo.encodings.per_layer import Stack, kinds, pattern
from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.theory.weights import is_softmax, weights

T = TypeVar("T")

VOCABULARY = 256
#: Tokens on which it is asked whether the bias is the same along every diagonal.
FEW = 8


@dataclass(frozen=True)
class Layer:
    """One layer's encoding, and what says where its tokens stand.

    Args:
        name: what it is called.
        encoding: in evaluation mode.
        source: what says where tokens stand; None for 0, 1, 2, ...
        seed: of inputs that are drawn.
    """

    name: str
    encoding: Encoding
    source: torch.nn.Module | None = None
    seed: int = 0

    def input(self, length: int) -> tuple[Tensor, Context]:
        """Drawn layer inputs, N(0, 1) as after a norm, (1, T, D), of drawn tokens, and where these stand."""
        generator = torch.Generator().manual_seed(self.seed)
        tokens = torch.randint(0, self.encoding.spec.vocab_size, (1, length), generator=generator)
        x = torch.randn(1, length, self.encoding.dim, generator=generator)
        return x, self.context(x, tokens)

    def context(self, x: Tensor, tokens: Tensor | None) -> Context:
        """Where the tokens of a layer input stand; without tokens they say nothing."""
        positions = Positions(Context.plain(x).index)
        if self.source is not None:
            # Sampled positions are drawn: by the same numbers every time.
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                ids = torch.zeros(1, x.size(1), dtype=torch.int64, device=x.device) if tokens is None else tokens
                positions = self.source(ids, 0, None)
        context = Context(positions.index, 0, tokens, None if tokens is None else x, positions.offset)
        return self.encoding.place(context)


def layers_of(
    name: str,
    *,
    heads: int,
    head_dim: int,
    train_length: int = 512,
    kernel: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> list[Layer]:
    """Each kind of layer that a name has, at its starting values.

    Args:
        name: a registered name, several joined by `+`, or a pattern of layers.
        heads, head_dim, train_length: the layer's shape, and T.
        kernel, options: as for `encodings.create`.
        seed: of what is drawn.

    Raises:
        UserError: an unknown name, or options that it has not.
    """
    spec = LayerSpec(heads, head_dim, heads * head_dim, 0, len(pattern(name)), train_length, VOCABULARY)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        source = Stack(name, spec, kernel=kernel, options=options).source()
        made = kinds(name, spec, kernel=kernel, options=options)
    source = None if source is None else source.eval()
    return [Layer(one, encoding.eval(), source, seed) for one, encoding in made.items()]


def at_longest(make: Callable[[int], T], lengths: Sequence[int]) -> T:
    """What is made at the first of some lengths, the longest first, at which the encoding is defined."""
    for length in lengths[:-1]:
        try:
            return make(length)
        except NotApplicable:
            continue
    return make(lengths[-1])


@torch.no_grad()
def is_static(layer: Layer) -> bool:
    """Whether its bias is a line of distance: the same along every diagonal, whatever the text."""
    bias = neutral_bias(layer, FEW)
    return isinstance(bias, Elementwise) and (isinstance(bias, NoBias) or bias.toeplitz())


def neutral_bias(layer: Layer, length: int) -> Bias:
    """The bias of inputs that take no memory and say nothing, in float64."""
    weights = chain(layer.encoding.parameters(), layer.encoding.buffers())
    device = next((weight.device for weight in weights), torch.device("cpu"))
    x = torch.zeros(1, 1, 1, dtype=torch.float64, device=device).expand(1, length, layer.encoding.dim)
    return layer.encoding.bias(x, context=layer.context(x, None))


@torch.no_grad()
def static_line(layer: Layer, length: int) -> Tensor:
    """(H, L) float64: the logits of neutral content (q.k = 0) by distance, of a layer for which `is_static` holds."""
    bias = neutral_bias(layer, length)
    assert isinstance(bias, Elementwise)
    if isinstance(bias, NoBias):
        values = torch.zeros(1, 1, 1, length, dtype=torch.float64)
    else:
        found = bias.line()
        assert found is not None
        values = found[1]
    return by_distance(values.detach().double().expand(1, bias.shape[1], 1, length), bias).cpu()


@torch.no_grad()
def drawn_line(layer: Layer, length: int) -> Tensor:
    """(H, L) float64: the same of the last of `length` drawn tokens, whose content is neutral: queries and keys of 0.

    Raises:
        UserError: a scheme whose parts cannot be asked for the logits of one row.
    """
    x, context = layer.input(length)
    encoding = layer.encoding
    last = slice(length - 1, length)
    nothing = torch.zeros(1, 1, 1, 1).expand(1, encoding.heads, length, encoding.head_dim)
    if encoding.query_key in ("read", "rewritten") or encoding.bias_kind == "owns" or encoding.besides_bias():
        encoded = encoding.encode(nothing, nothing, nothing, x=x, context=context)
        bias, q, k = encoded.bias, encoded.q, encoded.k
    else:
        bias, q, k = encoding.bias(x, context=context).bind(nothing, nothing), nothing, nothing
    rows = bias.score_rows(q[:, :, last], k, encoding.head_dim**-0.5, last).expand(-1, encoding.heads, 1, length)[:1]
    line = by_distance(rows.double(), bias)
    if is_softmax(bias):
        return line
    # Then ln p is what a softmax would need.
    return weights(line.flip(-1)[None, :, None], bias, last).log()[0, :, 0].flip(-1)


def by_distance(row: Tensor, bias: Bias) -> Tensor:
    """(1, H, 1, S) logits of the last query -> (H, S) by distance, -inf where a key is not seen."""
    if row.size(-1) < 1:
        raise UserError("a query needs a key")
    seen = bias.visibility()
    if seen is not None:
        row = row.masked_fill(hidden(1, row.size(-1), seen, row.device), float("-inf"))
    return row[0, :, 0].flip(-1)
