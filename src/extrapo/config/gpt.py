"""The shape of a GPT."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from extrapo.config.hardware import InferenceSettings
from extrapo.config.model import EncodingSettings, ShapeSettings
from extrapo.config.values import Count, Positive


class GPTConfig(InferenceSettings, ShapeSettings, EncodingSettings):
    """The shape of a GPT: beside the settings of the groups that it shares with a run,

    Args:
        vocab_size: number of token ids V.
        heads: attention heads H of a block; divides `dim`.
        dim: model width D.
        train_length: T; only encodings that own a table read it.
        mlp_ratio: hidden width of the MLP over D.
    """

    vocab_size: Count = 50_304
    heads: Count = 8
    dim: Count = 512
    train_length: Count = 1024
    mlp_ratio: Positive = 4.0

    @property
    def head_dim(self) -> int:
        """Width of a head d."""
        return self.dim // self.heads

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.dim % self.heads:
            divisors = [h for h in range(1, self.dim + 1) if self.dim % h == 0]
            near = min(divisors, key=lambda h: abs(h - self.heads))
            raise ValueError(f"{self.heads} heads do not divide the width {self.dim}; {near} would")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"{self.kv_heads} key-value heads do not divide {self.heads} heads")
        return self
