"""GPT, the decoder-only transformer of the papers (GPT-2's shape: pre-norm, GELU, tied embeddings), with one seam for
the positional encoding and a decode state that is passed in and returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from extrapo.attention import Choice
from extrapo.block import Block, make_norm
from extrapo.config import GPTConfig
from extrapo.encodings import Context, LayerSpec, LayerState
from extrapo.encodings.core.positions import index
from extrapo.encodings.per_layer import Stack
from extrapo.errors import UserError
from extrapo.packing import Packing


@dataclass(frozen=True)
class State:
    """Where decoding stands.

    Args:
        batch_size: B.
        length: number of tokens read.
        layers: each layer's state, None before the first token.
        positions: what the source of positions keeps.
    """

    batch_size: int
    length: int
    layers: tuple[LayerState | None, ...]
    positions: Any = None


class GPT(nn.Module):
    """A GPT of any length: tokens (B, T) -> logits (B, T, V).

    Args:
        config: the shape, and the encoding by name.

    Raises:
        UserError: an encoding that there is not, or options that it does not have; more weights than memory holds.
    """

    swapped: Tensor

    def __init__(self, config: GPTConfig) -> None:
        if torch.get_default_device().type != "meta":
            config.check_memory()
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        phases = stacks(config)
        self.sources = nn.ModuleList(phase.source() or nn.Identity() for phase in phases)
        self.positions = nn.ModuleList(phase.embedding() or nn.Identity() for phase in phases)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in zip(*(p.layers for p in phases), strict=True))
        self.phase = 0
        if len(phases) > 1:
            self.register_buffer("swapped", torch.tensor(False))
            self.register_load_state_dict_post_hook(lambda *_: self._enter(int(self.swapped)))  # type: ignore[no-untyped-call]
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

    def swap(self) -> None:
        """From now on the encoding `swap_to` is in force; what the first one learned stays in the checkpoint."""
        if self.config.swap_to is None:
            raise UserError("this model has no second encoding to swap to; name one with swap_to")
        self.swapped.fill_(True)
        self._enter(1)

    def _enter(self, phase: int) -> None:
        self.phase = phase
        for block in self.blocks:
            block.attention.phase = phase  # type: ignore[union-attr]

    def num_parameters(self) -> int:
        """Trainable numbers; tied weights count once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def context(self, tokens: Tensor, start: int = 0, state: Any = None) -> tuple[Context, Any]:
        """Where the tokens (B, T) stand after `start` others, and what the source of positions keeps for the next."""
        if tokens.dim() != 2 or tokens.size(1) == 0:
            raise UserError(f"tokens must be (batch, length) with at least one token, not {tuple(tokens.shape)}")
        source = self.sources[self.phase]
        if isinstance(source, nn.Identity):
            places = index(start, start + tokens.size(1), self.embedding.weight)
            return Context(places, start, tokens, counted=places), None
        positions = source(tokens, start, state)
        return Context(positions.index, start, tokens, offset=positions.offset), positions.state

    def embed(self, tokens: Tensor, context: Context, packing: Packing | None = None) -> Tensor:
        """(B, T) -> (B, T, D), what the first block reads."""
        x = self.embedding(tokens)
        positions = self.positions[self.phase]
        if not isinstance(positions, nn.Identity):
            x = x if packing is None else packing.unpack(x)
            x = positions(x, context)
            x = x if packing is None else packing.pack(x)
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
        context, positions = self.context(tokens, state.length, state.positions)
        x = self.embed(tokens, context)
        layers: list[LayerState] = []
        for block, past in zip(self.blocks, state.layers, strict=True):
            x, after = block(x, context, past)
            layers.append(after)
        logits = self.unembedding(self.norm(x))
        return logits, State(state.batch_size, state.length + tokens.size(1), tuple(layers), positions)

    @torch.no_grad()
    def biases(self, tokens: Tensor) -> list[Tensor]:
        """What each layer adds to s q.k: a list of (B, H, T, T) float32, -inf above the diagonal."""
        biases: list[Tensor] = []
        context, _ = self.context(tokens)
        x = self.embed(tokens, context)
        for block in self.blocks:
            assert isinstance(block, Block)
            x, bias = block.with_dense_bias(x, context)
            biases.append(bias)
        return biases

    def choices(self, tokens: Tensor) -> list[Choice]:
        """Which back end of attention serves each layer on these tokens, and why.

        It may differ between training and evaluation: ask with gradients enabled, or under torch.no_grad(). Where it
        has to be measured first, it is so on these tokens: ask with a text like those to come.
        """
        context, _ = self.context(tokens)
        x = self.embed(tokens, context)
        context = replace(context, residual=x)
        blocks: Sequence[Block] = self.blocks  # type: ignore[assignment]
        # What lies before a layer makes no difference: the embeddings serve for all.
        return [block.attention.choice(block.attention_norm(x), context) for block in blocks]


def stacks(config: GPTConfig) -> list[Stack]:
    """The encodings of all layers; and those that take over at the swap."""
    spec = LayerSpec(
        config.heads, config.head_dim, config.dim, 0, config.layers, config.train_length, config.vocab_size
    )
    share = config.share_encoding
    built = [Stack(config.encoding, spec, kernel=config.kernel, options=config.encoding_options, share=share)]
    if config.swap_to is not None:
        built.append(Stack(config.swap_to, spec, options=config.swap_options, share=share))
    return built
