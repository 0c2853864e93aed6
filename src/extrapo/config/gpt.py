"""The shape of a GPT, and the papers' sizes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from extrapo.config.hardware import InferenceSettings
from extrapo.config.model import EncodingSettings, ShapeSettings
from extrapo.config.values import Count, Positive
from extrapo.errors import unknown

#: The papers' sizes. At vocabulary 50,304: 44.6M, 123.6M and 353.5M parameters (the papers print 44M, 124M and 334M;
#: the last does not follow from its own shape of 24 layers of width 1,024).
PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"layers": 6, "heads": 8, "dim": 512},
    "small": {"layers": 12, "heads": 12, "dim": 768},
    "medium": {"layers": 24, "heads": 16, "dim": 1024},
}


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

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """`tiny`, `small` or `medium`, with changes."""
        if name not in PRESETS:
            raise unknown("preset", name, PRESETS)
        return cls(**{**PRESETS[name], **changes})

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
