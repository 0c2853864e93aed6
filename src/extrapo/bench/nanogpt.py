"""nanoGPT (Karpathy, github.com/karpathy/nanoGPT, 2022), the baseline of training steps, written from its formulas.

Learned positions are added to the embeddings, attention is the stock fused one, GELU is the exact form, cross-entropy
is over all logits at once, and AdamW is the plain one on a CPU, the fused one on a GPU. Linear maps and norms have
biases, as those of the models beside it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Causal self-attention, q, k and v from one linear map.

    Args:
        heads: H.
        dim: model width D = H d.
    """

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        batch, length, dim = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, dim // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(dim, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(batch, length, dim)
        return self.dropout(self.out(y))  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    Args:
        heads: H.
        dim: D.
    """

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(heads, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class NanoGPT(nn.Module):
    """Token and learned position embeddings, blocks, a last norm, and an output layer with the embedding's weights.

    Args:
        layers, heads, dim: the shape; H divides D.
        vocab_size: V.
        length: T, the size of the table of positions.
    """

    def __init__(self, layers: int, heads: int, dim: int, vocab_size: int, length: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, dim), nn.Embedding(length, dim)
        self.dropout = nn.Dropout(0.0)
        self.blocks = nn.ModuleList(Block(heads, dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.unembedding = nn.Linear(dim, vocab_size, bias=False)
        self.unembedding.weight = self.tokens.weight
        residual = 0.02 / math.sqrt(2 * layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=residual if name.endswith(("out.weight", "mlp.2.weight")) else 0.02)
            elif "norm" not in name:
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """(B, T) token ids and the ones after them -> the mean loss in nats, a scalar."""
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(positions))
        for block in self.blocks:
            x = block(x)
        logits = self.unembedding(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """AdamW, with decay on what has two dimensions or more."""
        matrices = [p for p in self.parameters() if p.dim() >= 2]
        vectors = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        fused = {"fused": True} if matrices[0].is_cuda else {}
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), **fused)
