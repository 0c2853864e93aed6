"""GPT, the decoder-only transformer of the papers (GPT-2's shape: pre-norm, GELU, tied embeddings), with one seam for
the positional encoding and a decode state that is passed in and returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo import encodings
from extrapo.attention import Choice, attend, choose
from extrapo.config import GPTConfig
from extrapo.encodings import Bias, Context, Encoding, Places, Site, causal_mask
from extrapo.errors import UserError
from extrapo.packing import Packing
from extrapo.positions import index


@dataclass(frozen=True)
class LayerState:
    """What one layer keeps between steps of decoding.

    Args:
        keys: (B, H, S, d) as attention sees them, transformed.
        values: (B, H, S, d).
        bias: the last step's bias, which holds the positions of all S tokens.
        carry: what the encoding's transform keeps.
    """

    keys: Tensor
    values: Tensor
    bias: Bias
    carry: Any


class Step(NamedTuple):
    """What one pass leaves for the next, before it is put away: a training step never does."""

    keys: Tensor
    values: Tensor
    bias: Bias
    carry: Any

    def kept(self) -> LayerState:
        """The layer's state after these tokens."""
        return LayerState(self.bias.cached(self.keys), self.values, self.bias, self.carry)


@dataclass(frozen=True)
class State:
    """Where decoding stands.

    Args:
        batch_size: B.
        length: number of tokens read.
        layers: each layer's state, None before the first token.
        places: what the source of positions keeps.
    """

    batch_size: int
    length: int
    layers: tuple[LayerState | None, ...]
    places: Any = None


def make_norm(config: GPTConfig) -> nn.Module:
    """The normalisation of a width D."""
    return nn.LayerNorm(config.dim, bias=config.bias) if config.norm == "layernorm" else nn.RMSNorm(config.dim)


class Attention(nn.Module):
    """Causal self-attention whose positions come from an encoding alone.

    Args:
        config: the model's shape.
        encoding: this layer's; several layers may share one.
    """

    def __init__(self, config: GPTConfig, encoding: Encoding) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.head_dim = config.head_dim
        self.scale = config.logit_scale or 1 / math.sqrt(config.head_dim)
        self.impl = config.impl
        self.qkv = nn.Linear(config.dim, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=config.bias)
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.encoding = encoding

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, (H + 2 H_kv) d) -> q, k, v of (B, H, T, d); a key-value head serves H / H_kv query heads."""
        heads = qkv.view(*qkv.shape[:-1], -1, self.head_dim).transpose(1, 2)
        q, k, v = torch.split(heads, [self.heads, self.kv_heads, self.kv_heads], dim=1)
        if (group := self.heads // self.kv_heads) > 1:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        return q, k, v

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> q, k, v of (B, H, T, d), before any transform."""
        return self.split(self.qkv(x))

    def forward(
        self, x: Tensor, context: Context, state: LayerState | None = None, packing: Packing | None = None
    ) -> tuple[Tensor, Step]:
        """(B, T, D) -> (B, T, D) and what decoding keeps; with `packing`, the context is that of the documents."""
        qkv = self.qkv(x)
        if packing is not None:
            qkv, x = packing.unpack(qkv), packing.unpack(x)
        carry, past = (None, None) if state is None else (state.carry, state.bias)
        q, k, v, carry, output = self.encoding.transform(*self.split(qkv), x=x, context=context, carry=carry)
        bias = self.encoding.bias(x, past, context)
        if state is not None:
            k, v = torch.cat([state.keys, k], dim=2), torch.cat([state.values, v], dim=2)
        y = attend(q, k, v, bias, scale=self.scale, impl=self.impl)
        if output is not None:
            y = output(y)
        y = y.transpose(1, 2).flatten(2)
        return self.out(y if packing is None else packing.pack(y)), Step(k, v, bias, carry)

    def dense_bias(self, x: Tensor, context: Context) -> Tensor:
        """(B, H, T, T) float32 for the input (B, T, D): the additive bias, or for a scheme that owns its logits,
        logit minus s q.k of the untransformed projections; -inf above the diagonal.
        """
        batch, length, _ = x.shape
        bias = self.encoding.bias(x, None, context)
        q, k, v = self.project(x)
        turned = self.encoding.transform(q, k, v, x=x, context=context, carry=None)
        bias = bias.given(turned.q, turned.k)
        if bias.additive:
            return bias.dense().expand(batch, self.heads, length, length)
        logits = bias.score(turned.q, turned.k, self.scale, slice(0, length))
        extra = (logits - self.scale * (q @ k.transpose(-1, -2))).float()
        return extra.masked_fill(causal_mask(length, length, x.device), float("-inf"))


class MLP(nn.Module):
    """The position-wise network: GELU (tanh form), or SwiGLU (Shazeer, 2002.05202) of the same size."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gated = config.mlp == "swiglu"
        hidden = round(config.mlp_ratio * config.dim)
        if self.gated:
            # Three matrices instead of two; a multiple of 8 keeps the matrix products aligned.
            hidden = 8 * math.ceil(2 * hidden / 3 / 8)
        self.up = nn.Linear(config.dim, 2 * hidden if self.gated else hidden, bias=config.bias)
        self.out = nn.Linear(hidden, config.dim, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = self.up(x)
        if self.gated:
            gate, value = x.chunk(2, dim=-1)
            x = F.silu(gate) * value
        else:
            x = F.gelu(x, approximate="tanh")
        return self.out(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, config: GPTConfig, encoding: Encoding) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, encoding)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, context: Context, state: LayerState | None = None, packing: Packing | None = None
    ) -> tuple[Tensor, Step]:
        """(B, T, D) -> (B, T, D) and what decoding keeps."""
        context = replace(context, residual=x if packing is None else packing.unpack(x))
        y, step = self.attention(self.attention_norm(x), context, state, packing)
        x = x + self.dropout(y)
        update = self.mlp(self.mlp_norm(x))
        self.attention.encoding.hand_on(update if packing is None else packing.unpack(update), context)
        return x + self.dropout(update), step


class GPT(nn.Module):
    """A GPT of any length: tokens (B, T) -> logits (B, T, V).

    Args:
        config: the shape, and the encoding by name.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        site = Site(0, config.layers, config.train_length, config.vocab_size)
        chosen: dict[str, Any] = {"kernel": config.kernel, **config.encoding_options}
        self.source = encodings.source(config.encoding, site=site, **chosen)
        self.positions = encodings.embedding(config.encoding, dim=config.dim, site=site, **chosen)
        self.dropout = nn.Dropout(config.dropout)
        chosen |= {"heads": config.heads, "head_dim": config.head_dim, "dim": config.dim}
        layers = [
            encodings.create(config.encoding, site=replace(site, layer=layer), **chosen)
            for layer in range(config.layers)
        ]
        share = layers[0].shared if config.share_encoding is None else config.share_encoding
        self.blocks = nn.ModuleList(Block(config, layers[0] if share else layer) for layer in layers)
        self.norm = make_norm(config)
        self.unembedding = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.initialise()
        if config.tied:
            self.unembedding.weight = self.embedding.weight

    def initialise(self) -> None:
        """GPT-2's: N(0, 0.02), biases 0, and residual projections at 0.02 / sqrt(2 layers).

        Encodings initialise themselves: their starting values are part of the scheme.
        """
        residual = 0.02 / math.sqrt(2 * self.config.layers)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.unembedding.weight, std=0.02)
        for block in self.blocks:
            assert isinstance(block, Block)
            for linear in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.out):
                is_residual = linear is block.attention.out or linear is block.mlp.out
                nn.init.normal_(linear.weight, std=residual if is_residual else 0.02)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)

    def num_parameters(self) -> int:
        """Trainable numbers; tied weights count once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def context(self, tokens: Tensor, start: int = 0, carry: Any = None) -> tuple[Context, Any]:
        """Where the tokens (B, T) stand after `start` others, and what the source of positions keeps for the next."""
        if tokens.dim() != 2 or tokens.size(1) == 0:
            raise UserError(f"tokens must be (batch, length) with at least one token, not {tuple(tokens.shape)}")
        if self.source is None:
            places = Places(index(start, start + tokens.size(1), self.embedding.weight), None, None)
        else:
            places = self.source(tokens, start, carry)
        return Context(places.index, start, tokens, offset=places.offset), places.carry

    def embed(self, tokens: Tensor, context: Context, packing: Packing | None = None) -> Tensor:
        """(B, T) -> (B, T, D), what the first block reads."""
        x = self.embedding(tokens)
        if self.positions is not None:
            x = (
                self.positions(x, context)
                if packing is None
                else packing.pack(self.positions(packing.unpack(x), context))
            )
        return self.dropout(x)  # type: ignore[no-any-return]

    def hidden(self, tokens: Tensor, documents: Tensor | None = None, context: Context | None = None) -> Tensor:
        """(B, T) -> (B, T, D), what the output layer reads.

        Args:
            tokens: ids.
            documents: (B, T) integers, where a row holds several documents: none sees another.
            context: where the tokens stand, if not at 0, 1, 2 ... or where the encoding's own source puts them.
        """
        packing = None if documents is None else Packing(documents)
        if context is None:
            context, _ = self.context(tokens if packing is None else packing.unpack(tokens))
        x = self.embed(tokens, context, packing)
        for block in self.blocks:
            x, _ = block(x, context, None, packing)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """(B, T) token ids, any T -> (B, T, V) logits; `documents` as in `hidden`."""
        return self.unembedding(self.hidden(tokens, documents))  # type: ignore[no-any-return]

    def start(self, batch_size: int = 1) -> State:
        """The state before the first token."""
        return State(batch_size, 0, (None,) * len(self.blocks))

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read (B, N) more tokens, N >= 1 -> (B, N, V) logits and the state after them."""
        if tokens.dim() == 2 and tokens.size(0) != state.batch_size:
            raise UserError(f"the state is for a batch of {state.batch_size}, the tokens are {tokens.size(0)}")
        context, places = self.context(tokens, state.length, state.places)
        x = self.embed(tokens, context)
        layers: list[LayerState] = []
        for block, past in zip(self.blocks, state.layers, strict=True):
            x, after = block(x, context, past)
            layers.append(after.kept())
        logits = self.unembedding(self.norm(x))
        return logits, State(state.batch_size, state.length + tokens.size(1), tuple(layers), places)

    @torch.no_grad()
    def biases(self, tokens: Tensor) -> list[Tensor]:
        """What each layer adds to s q.k: a list of (B, H, T, T) float32, -inf above the diagonal."""
        found: list[Tensor] = []
        context, _ = self.context(tokens)
        x = self.embed(tokens, context)
        for block in self.blocks:
            assert isinstance(block, Block)
            found.append(block.attention.dense_bias(block.attention_norm(x), replace(context, residual=x)))
            x, _ = block(x, context)
        return found

    @torch.no_grad()
    def path(self, tokens: Tensor) -> Choice:
        """Which compute path of attention serves the first layer on these tokens, and why."""
        block: Sequence[Block] = self.blocks  # type: ignore[assignment]
        attention = block[0].attention
        context, _ = self.context(tokens)
        residual = self.embed(tokens, context)
        context = replace(context, residual=residual)
        x = block[0].attention_norm(residual)
        q, k, v = attention.project(x)
        turned = attention.encoding.transform(q, k, v, x=x, context=context, carry=None)
        bias = attention.encoding.bias(x, None, context)
        return choose(bias.given(turned.q, turned.k), turned.q, attention.impl)
