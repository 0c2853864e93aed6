"""The model: its positional encoding, the swap to another one, and its shape."""

from __future__ import annotations

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import (
    MLP,
    Count,
    CountOrZero,
    EncodingName,
    Layers,
    Line,
    Norm,
    Options,
    Positive,
    Share,
    SwapOptimizer,
    SwapSchedule,
    Width,
)


class EncodingNameSettings(Settings):
    """Which encoding says where tokens stand."""

    encoding: EncodingName = Field("k-cable", description="Positional encoding; several joined by +, as rope+k-cable.")


class EncodingFormSettings(Settings):
    """Which form of that encoding."""

    encoding_options: Options = Field(
        default_factory=dict, description="The encoding's own options; for a composition, per part."
    )
    kernel: Line | None = Field(None, description="Kernel of an encoding that has one.")


class EncodingSettings(EncodingFormSettings, EncodingNameSettings):
    """Where tokens stand, in all layers and for all of training."""

    share_encoding: bool | None = Field(None, description="All layers use one encoding [as its authors do].")
    swap_to: EncodingName | None = Field(
        None, description="Encoding that takes over at swap_step, as DroPE's nope after rope."
    )
    swap_options: Options = Field(default_factory=dict, description="The options of that one.")


class SwapSettings(Settings):
    """When the second encoding takes over; of a run, as a model is told to swap."""

    swap_step: Count | None = Field(None, description="Step at which it takes over [4/5 of steps].")
    swap_lr: Positive | None = Field(None, description="Peak learning rate after the swap [lr].")
    swap_warmup: CountOrZero | None = Field(None, description="Steps of linear warmup after the swap [warmup].")
    swap_schedule: SwapSchedule = Field("cosine", description="Learning rate after the swap.")
    swap_optimizer: SwapOptimizer = Field("same", description="Its moments go on at the swap, or begin anew (fresh).")


class ShapeSettings(Settings):
    """Layers and widths."""

    layers: Layers = Field(6, description="Number of blocks: the one dial, width and rates follow.")
    heads: Width | None = Field(None, description="Attention heads [2/3 of the layers].")
    kv_heads: Width | None = Field(None, description="Key-value heads, for grouped-query attention [as heads].")
    dim: Width | None = Field(None, description="Model width [32 a head].")
    norm: Norm = Field("layernorm", description="Normalisation.")
    mlp: MLP = Field("gelu", description="Form of the position-wise network.")
    tied: bool = Field(True, description="Share the output layer's weights with the embedding.")
    bias: bool = Field(True, description="Biases in the linear layers.")
    dropout: Share = Field(0.0, description="Dropout.")
    logit_scale: Positive | None = Field(None, description="Factor of the dot product [1/sqrt(head width)].")
