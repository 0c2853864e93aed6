"""One block of a GPT (pre-norm, GPT-2's shape), with one seam for the positional encoding and its state of decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.attention import Choice, attend_encoded, check_impl, choose
from extrapo.config import GPTConfig
from extrapo.encodings import Context, Encoded, Encoding, LayerState
from extrapo.encodings.core.visibility import hidden
from extrapo.errors import UserError
from extrapo.packing import Packing
from extrapo.pruned import pruned


def make_norm(config: GPTConfig) -> nn.Module:
    """The normalisation of a width D."""
    return nn.LayerNorm(config.dim, bias=config.bias) if config.norm == "layernorm" else nn.RMSNorm(config.dim)


class Attention(nn.Module):
    """Causal self-attention whose positions come from an encoding alone.

    Args:
        config: the model's shape.
        phases: this layer's encoding, and the one that takes over at the swap; several layers may share one.
    """

    def __init__(self, config: GPTConfig, phases: Sequence[Encoding]) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.head_dim = config.head_dim
        self.scale = config.logit_scale or 1 / math.sqrt(config.head_dim)
        check_impl(config.impl)
        self.impl, self.skip = config.impl, config.skip
        self.qkv = nn.Linear(config.dim, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=config.bias)
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.encodings = nn.ModuleList(phases)
        self.phase = 0

    @property
    def encoding(self) -> Encoding:
        """The one in force."""
        encoding = self.encodings[self.phase]
        assert isinstance(encoding, Encoding)
        return encoding

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, (H + 2 H_kv) d) -> q, k, v of (B, H, T, d); a key-value head serves H / H_kv query heads."""
        # Cut before the heads are turned to the front: the gradients then come together in one copy.
        widths = [heads * self.head_dim for heads in (self.heads, self.kv_heads, self.kv_heads)]
        parts = torch.split(qkv, widths, dim=-1)
        q, k, v = (part.view(*part.shape[:-1], -1, self.head_dim).transpose(1, 2) for part in parts)
        if (group := self.heads // self.kv_heads) > 1:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        return q, k, v

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> q, k, v of (B, H, T, d), before any transform."""
        return self.split(self.qkv(x))

    def forward(
        self, x: Tensor, context: Context, state: LayerState | None = None, packing: Packing | None = None
    ) -> tuple[Tensor, LayerState]:
        """(B, T, D) -> (B, T, D) and what decoding keeps; with `packing`, the context is that of the documents."""
        qkv = self.qkv(x)
        if packing is not None:
            qkv, x = packing.unpack(qkv), packing.unpack(x)
        encoded = self.encoding.encode(*self.split(qkv), x=x, context=context, state=state)
        return self.output(encoded, packing), encoded.state

    def output(self, encoded: Encoded, packing: Packing | None = None) -> Tensor:
        """Of T queries, (B, T, D)."""
        y = self.attend(encoded).transpose(1, 2).flatten(2)
        return self.out(y if packing is None else packing.pack(y))  # type: ignore[no-any-return]

    def attend(self, encoded: Encoded) -> Tensor:
        """Of T queries, (B, H, T, d); in evaluation without the far keys, where the configuration has `skip`."""
        if self.training or self.skip is None:
            return attend_encoded(encoded, scale=self.scale, impl=self.impl)
        if self.impl != "auto":
            raise UserError(f"`skip` is a way of its own, beside impl '{self.impl}': leave one of them out")
        return encoded.output(pruned(encoded.q, encoded.k, encoded.v, encoded.bias, self.scale, self.skip))

    def choice(self, x: Tensor, context: Context) -> Choice:
        """Which back end serves the input (B, T, D), and why."""
        encoded = self.encoding.encode(*self.project(x), x=x, context=context)
        return choose(encoded.bias, encoded.q, encoded.k, self.impl)

    def with_dense_bias(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """What `forward` gives for the input (B, T, D), and the bias it did so under, see `dense_bias`."""
        q, k, v = self.project(x)
        encoded = self.encoding.encode(q, k, v, x=x, context=context)
        return self.output(encoded), dense_bias(encoded, q, k, self.scale)


def dense_bias(encoded: Encoded, q: Tensor, k: Tensor, scale: float) -> Tensor:
    """The bias that attention is under, (B, H, T, T) in float32: the additive one, or for a scheme that owns its
    logits, logit minus s q.k of the untransformed projections q and k (B, H, T, d); -inf where a key is not seen.
    """
    bias, (batch, heads, length, _) = encoded.bias, q.shape
    if bias.additive:
        return bias.dense().expand(batch, heads, length, length)
    logits = bias.score_rows(encoded.q, encoded.k, scale, slice(0, length))
    extra = (logits - scale * (q @ k.transpose(-1, -2))).float()
    return extra.masked_fill(hidden(length, length, bias.visibility(), q.device), float("-inf"))


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

    def __init__(self, config: GPTConfig, phases: Sequence[Encoding]) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, phases)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, context: Context, state: LayerState | None = None, packing: Packing | None = None
    ) -> tuple[Tensor, LayerState]:
        """(B, T, D) -> (B, T, D) and what decoding keeps."""
        context = replace(context, residual=x if packing is None else packing.unpack(x))
        y, after = self.attention(self.attention_norm(x), context, state, packing)
        return self.residual(x, y, context, packing), after

    def with_dense_bias(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T, D) as `forward` has it, and the bias of its attention, (B, H, T, T)."""
        context = replace(context, residual=x)
        y, bias = self.attention.with_dense_bias(self.attention_norm(x), context)
        return self.residual(x, y, context), bias

    def residual(self, x: Tensor, y: Tensor, context: Context, packing: Packing | None = None) -> Tensor:
        """(B, T, D), the block's output from its input `x` and what attention made of it, `y`."""
        x = x + self.dropout(y)
        update = self.mlp(self.mlp_norm(x))
        self.attention.encoding.update_shared(update if packing is None else packing.unpack(update), context)
        return x + self.dropout(update)  # type: ignore[no-any-return]
