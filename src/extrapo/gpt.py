"""GPT, the decoder-only transformer of the papers (GPT-2's shape: pre-norm, GELU, tied embeddings), with one seam for
the positional encoding and a decode state that is passed in and returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo import encodings
from extrapo.attention import Choice, attend, choose
from extrapo.config import GPTConfig
from extrapo.encodings import Bias, causal_mask
from extrapo.errors import UserError


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


@dataclass(frozen=True)
class State:
    """Where decoding stands: the number of tokens read, and each layer's state (None before the first token)."""

    batch_size: int
    length: int
    layers: tuple[LayerState | None, ...]


def make_norm(config: GPTConfig) -> nn.Module:
    """The normalisation of a width D."""
    return nn.LayerNorm(config.dim, bias=config.bias) if config.norm == "layernorm" else nn.RMSNorm(config.dim)


class Attention(nn.Module):
    """Causal self-attention whose positions come from an encoding alone."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.scale = config.logit_scale or 1 / math.sqrt(config.head_dim)
        self.impl = config.impl
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.bias)
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.encoding = encodings.create(
            config.encoding,
            heads=config.heads,
            head_dim=config.head_dim,
            dim=config.dim,
            kernel=config.kernel,
            **config.encoding_options,
        )

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> q, k, v of (B, H, T, d), before any transform."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor, state: LayerState | None = None, start: int = 0) -> tuple[Tensor, LayerState]:
        """(B, T, D), the tokens start..start+T-1 -> (B, T, D) and the state after them."""
        carry = None if state is None else state.carry
        q, k, v, carry = self.encoding.transform(*self.project(x), x=x, start=start, carry=carry)
        bias = self.encoding.bias(x, None if state is None else state.bias)
        if state is not None:
            k, v = torch.cat([state.keys, k], dim=2), torch.cat([state.values, v], dim=2)
        y = attend(q, k, v, bias, scale=self.scale, impl=self.impl)
        return self.out(y.transpose(1, 2).flatten(2)), LayerState(k, v, bias, carry)

    def dense_bias(self, x: Tensor) -> Tensor:
        """(B, H, T, T) float32 for the input (B, T, D): the additive bias, or for a scheme that owns its logits,
        logit minus s q.k of the untransformed projections; -inf above the diagonal.
        """
        batch, length, _ = x.shape
        bias = self.encoding.bias(x)
        if bias.additive:
            return bias.dense().expand(batch, self.heads, length, length)
        q, k, v = self.project(x)
        turned = self.encoding.transform(q, k, v, x=x, start=0, carry=None)
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

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, state: LayerState | None = None, start: int = 0) -> tuple[Tensor, LayerState]:
        """(B, T, D) -> (B, T, D) and the layer's state after these tokens."""
        y, state = self.attention(self.attention_norm(x), state, start)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), state


class GPT(nn.Module):
    """A GPT of any length: tokens (B, T) -> logits (B, T, V).

    Args:
        config: the shape, and the encoding by name.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.positions = encodings.embedding(
            config.encoding,
            dim=config.dim,
            train_length=config.train_length,
            kernel=config.kernel,
            **config.encoding_options,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
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

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        if tokens.dim() != 2 or tokens.size(1) == 0:
            raise UserError(f"tokens must be (batch, length) with at least one token, not {tuple(tokens.shape)}")
        x = self.embedding(tokens)
        if self.positions is not None:
            x = self.positions(x, start)
        return self.dropout(x)  # type: ignore[no-any-return]

    def hidden(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, D), what the output layer reads."""
        x = self._embed(tokens, 0)
        for block in self.blocks:
            x, _ = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) token ids, any T -> (B, T, V) logits."""
        return self.unembedding(self.hidden(tokens))  # type: ignore[no-any-return]

    def start(self, batch_size: int = 1) -> State:
        """The state before the first token."""
        return State(batch_size, 0, (None,) * len(self.blocks))

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read (B, N) more tokens, N >= 1 -> (B, N, V) logits and the state after them."""
        if tokens.dim() == 2 and tokens.size(0) != state.batch_size:
            raise UserError(f"the state is for a batch of {state.batch_size}, the tokens are {tokens.size(0)}")
        x = self._embed(tokens, state.length)
        layers: list[LayerState] = []
        for block, past in zip(self.blocks, state.layers, strict=True):
            x, after = block(x, past, state.length)
            layers.append(after)
        logits = self.unembedding(self.norm(x))
        return logits, State(state.batch_size, state.length + tokens.size(1), tuple(layers))

    @torch.no_grad()
    def biases(self, tokens: Tensor) -> list[Tensor]:
        """What each layer adds to s q.k: a list of (B, H, T, T) float32, -inf above the diagonal."""
        found: list[Tensor] = []
        x = self._embed(tokens, 0)
        for block in self.blocks:
            assert isinstance(block, Block)
            found.append(block.attention.dense_bias(block.attention_norm(x)))
            x, _ = block(x)
        return found

    @torch.no_grad()
    def path(self, tokens: Tensor) -> Choice:
        """Which compute path of attention serves the first layer on these tokens, and why."""
        block: Sequence[Block] = self.blocks  # type: ignore[assignment]
        attention = block[0].attention
        x = block[0].attention_norm(self._embed(tokens, 0))
        q, _, _ = attention.project(x)
        return choose(attention.encoding.bias(x), q, attention.impl)
