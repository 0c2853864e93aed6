"""The shape of a GPT."""

from __future__ import annotations

import os
from typing import Self

from pydantic import model_validator

from extrapo.config.hardware import InferenceSettings
from extrapo.config.model import EncodingSettings, ShapeSettings
from extrapo.config.values import Count, Positive, Vocabulary, Width
from extrapo.errors import UserError


class GPTConfig(InferenceSettings, ShapeSettings, EncodingSettings):
    """The shape of a GPT: beside the settings of the groups that it shares with a run,

    Args:
        vocab_size: number of token ids V.
        heads: attention heads H of a block; divides `dim`.
        dim: model width D.
        train_length: T, the length that the model is trained at: windows, logit scales, interpolation and tables begin
            to act there.
        mlp_ratio: hidden width of the MLP over D.
    """

    vocab_size: Vocabulary = 50_304
    heads: Width = 8
    dim: Width = 512
    train_length: Count = 1024
    mlp_ratio: Positive = 4.0

    @property
    def head_dim(self) -> int:
        """Width of a head d."""
        return self.dim // self.heads

    @property
    def least_parameters(self) -> int:
        """Weights of the matrices alone, without what the encoding adds."""
        attention, mlp = 4 * self.dim**2, int((3 if self.mlp == "swiglu" else 2) * self.mlp_ratio * self.dim**2)
        return self.vocab_size * self.dim + self.layers * (attention + mlp)

    def check_memory(self) -> None:
        """Whether this machine could hold the weights, in float32: to find out by trying takes all others down.

        Raises:
            UserError: it could not.
        """
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if 4 * self.least_parameters > here:
            raise UserError(
                f"`layers` {self.layers} of `dim` {self.dim} are {self.least_parameters / 1e9:,.1f} billion weights, "
                f"more than the {here / 2**30:,.0f} GiB of memory here hold; take fewer or narrower ones"
            )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.dim % self.heads:
            divisors = [h for h in range(1, self.dim + 1) if self.dim % h == 0]
            near = min(divisors, key=lambda h: abs(h - self.heads))
            raise ValueError(f"{self.heads} heads do not divide the width {self.dim}; {near} would")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"{self.kv_heads} key-value heads do not divide {self.heads} heads")
        return self
