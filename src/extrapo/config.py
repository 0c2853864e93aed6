"""What a run is: the model's shape and the run's settings. No torch here, so that the command line starts at once."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from extrapo.errors import UserError, unknown

#: The papers' sizes. At vocabulary 50,304: 44.6M, 123.6M and 353.5M parameters (the papers print 44M, 124M and 334M;
#: the last does not follow from its own shape of 24 layers of width 1,024).
PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"layers": 6, "heads": 8, "dim": 512},
    "small": {"layers": 12, "heads": 12, "dim": 768},
    "medium": {"layers": 24, "heads": 16, "dim": 1024},
}

Count = Annotated[int, Field(ge=1)]
Norm = Literal["layernorm", "rmsnorm"]
MLP = Literal["gelu", "swiglu"]
#: `auto` or the name of a back end, which attention checks: it has the list.
Impl = str


def _listed(value: Any) -> Any:
    """`128,256` is a list as well."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    return [item for part in parts for item in (part.split(",") if isinstance(part, str) else [part])]


def _plain(value: Any) -> Any:
    """Options given as flags arrive as text: numbers, truth values and lists are meant as such."""
    if isinstance(value, dict):
        # The parts of a composition keep their hyphens, options are Python names.
        return {k if isinstance(v, dict) else k.replace("-", "_"): _plain(v) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    for kind in (int, float, _list):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(value.lower(), value)


def _list(value: str) -> list[Any]:
    """`[13, 198]`; ValueError for what is no list."""
    found = json.loads(value)
    if not isinstance(found, list):
        raise ValueError(value)
    return found


Lengths = Annotated[tuple[Count, ...], BeforeValidator(_listed)]
Options = Annotated[dict[str, Any], BeforeValidator(_plain)]


class GPTConfig(BaseModel):
    """The shape of a GPT.

    Args:
        vocab_size: number of token ids V.
        layers: number of blocks.
        heads: attention heads H of a block; divides `dim`.
        dim: model width D.
        kv_heads: key-value heads, each serving heads / kv_heads query heads (grouped-query attention); None is `heads`.
        encoding: positional encoding, by registry name; several joined by `+`.
        encoding_options: the encoding's own options; for a composition, per part.
        kernel: replaces the kernel of an encoding that has one.
        share_encoding: all layers use one encoding module; None is as the scheme's authors do.
        swap_to: another encoding that takes over when the model is told to swap (DroPE: from rope to nope).
        swap_options: the options of that one.
        train_length: T; only encodings that own a table read it.
        norm: `layernorm` with a bias, or `rmsnorm`.
        mlp: `gelu` (tanh form, as GPT-2), or `swiglu` of the same number of parameters.
        mlp_ratio: hidden width of the MLP over D.
        tied: the output layer shares the embedding's weights.
        bias: linear layers have a bias.
        dropout: on embeddings and residual branches.
        logit_scale: factor s of the dot product; None is 1 / sqrt(head width).
        impl: compute path of attention.
        skip: in evaluation, leave out far keys that together weigh at most this much of 1; None is exact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    vocab_size: Count = 50_304
    layers: Count = 6
    heads: Count = 8
    dim: Count = 512
    kv_heads: Count | None = None
    encoding: str = "k-cable"
    encoding_options: Options = Field(default_factory=dict)
    kernel: str | None = None
    share_encoding: bool | None = None
    swap_to: str | None = None
    swap_options: Options = Field(default_factory=dict)
    train_length: Count = 1024
    norm: Norm = "layernorm"
    mlp: MLP = "gelu"
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    tied: bool = True
    bias: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    logit_scale: Annotated[float, Field(gt=0)] | None = None
    impl: Impl = "auto"
    skip: Annotated[float, Field(gt=0, lt=1)] | None = None

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


class RunConfig(BaseModel):
    """One run of `extrapo fit`: what is trained, on what, how, and how it is measured.

    `layers` is the one dial: a value of None is derived from it by `resolved`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    # model
    encoding: str = Field("k-cable", description="Positional encoding; several joined by +, as rope+k-cable.")
    encoding_options: Options = Field(
        default_factory=dict, description="The encoding's own options; for a composition, per part."
    )
    kernel: str | None = Field(None, description="Kernel of an encoding that has one.")
    share_encoding: bool | None = Field(None, description="All layers use one encoding [as its authors do].")
    swap_to: str | None = Field(None, description="Encoding that takes over at swap_step, as DroPE's nope after rope.")
    swap_options: Options = Field(default_factory=dict, description="The options of that one.")
    swap_step: Count | None = Field(None, description="Step at which it takes over [4/5 of steps].")
    swap_lr: Annotated[float, Field(gt=0)] | None = Field(None, description="Peak learning rate after the swap [lr].")
    layers: Count = Field(6, description="Number of blocks: the one dial, width and rates follow.")
    heads: Count | None = Field(None, description="Attention heads [2/3 of the layers].")
    kv_heads: Count | None = Field(None, description="Key-value heads, for grouped-query attention [as heads].")
    dim: Count | None = Field(None, description="Model width [32 a head].")
    norm: Norm = Field("layernorm", description="Normalisation.")
    mlp: MLP = Field("gelu", description="Form of the position-wise network.")
    tied: bool = Field(True, description="Share the output layer's weights with the embedding.")
    bias: bool = Field(True, description="Biases in the linear layers.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout.")
    logit_scale: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Factor of the dot product [1/sqrt(head width)]."
    )

    # data
    data: str = Field("stdlib", description="Text: stdlib, text:PATH, wikitext-2 or wikitext-2:FOLDER.")
    tokenizer: str = Field("bpe", description="bpe (trained on the text), byte, or gpt2:FOLDER.")
    vocab_size: Annotated[int, Field(ge=257)] = Field(4096, description="Vocabulary of the trained tokenizer.")

    # training
    seq_len: Count = Field(256, description="Training length T in tokens.")
    steps: Count = Field(250, description="Optimiser steps.")
    batch_size: Count | None = Field(None, description="Sequences in a step, over all devices [4096 tokens].")
    micro_batch: Count | None = Field(None, description="Sequences a device takes at once [all of its share].")
    lr: Annotated[float, Field(gt=0)] | None = Field(None, description="Peak learning rate [0.02 / sqrt(width)].")
    warmup: Annotated[int, Field(ge=0)] | None = Field(None, description="Steps of linear warmup [4%].")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.1, description="Decay, on matrices only.")
    clip: Annotated[float, Field(ge=0)] = Field(1.0, description="Largest gradient norm; 0 is none.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of the weights and of the order of the text.")
    val_every: Count | None = Field(None, description="Steps between validations and checkpoints [1/6 of steps].")
    val_tokens: Count = Field(8192, description="Tokens of a validation.")
    log_every: Count = Field(10, description="Steps between records of the loss.")

    # evaluation
    lengths: Lengths | None = Field(None, description="Evaluation lengths [T/2, T, 2T, 4T, 8T, 16T].")
    eval_tokens: Count = Field(32_768, description="Tokens scored at every length.")
    protocol: str = Field("disjoint", description="How windows cover the text.")
    heatmaps: Annotated[int, Field(ge=0)] = Field(
        3, description="Times the biases are drawn, from the start to the end of training."
    )

    # hardware
    devices: int | Literal["auto"] = Field("auto", description="Devices (processes); auto is all GPUs, or 1 CPU.")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="Where to run.")
    nodes: Count = Field(1, description="Machines, started by torchrun or SLURM.")
    strategy: str = Field(
        "auto", description="Lightning strategy: auto, ddp, fsdp (FSDP2), model-parallel (the same) ..."
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "64-true"] = Field(
        "auto", description="auto is bf16-mixed on a GPU, 32-true on a CPU."
    )
    compile: bool | None = Field(None, description="torch.compile [on a GPU only].")
    impl: Impl = Field("auto", description="Compute path of attention.")

    # record
    root: str = Field("runs", description="Folder of all runs: checkpoints, pictures, MLflow database.")
    tracking_uri: str | None = Field(None, description="MLflow server or database [sqlite in the root].")
    experiment: str = Field("extrapo", description="MLflow experiment.")
    name: str | None = Field(None, description="Name of the run [encoding, layers and seed].")

    def resolved(self, devices: int = 1) -> RunConfig:
        """The same run with every derived value written out.

        Args:
            devices: number of processes that share a step.
        """
        heads = self.heads or (_heads_for(self.dim) if self.dim else max(2, round(2 * self.layers / 3)))
        dim = self.dim or 32 * heads
        batch = self.batch_size or max(devices, 4096 // self.seq_len // devices * devices)
        if batch % devices:
            raise UserError(f"a batch of {batch} sequences does not divide among {devices} devices")
        swap = self.swap_step or (max(1, 4 * self.steps // 5) if self.swap_to else None)
        if swap is not None and self.swap_to is None:
            raise UserError("swap_step says when another encoding takes over: say which with swap_to")
        if swap is not None and swap >= self.steps:
            raise UserError(f"swap_step {swap} does not lie before the last of {self.steps} steps")
        share = batch // devices
        micro = self.micro_batch or share
        if share % micro:
            raise UserError(f"micro_batch {micro} does not divide a device's share of {share} sequences")
        return self.model_copy(
            update={
                "heads": heads,
                "dim": dim,
                "batch_size": batch,
                "micro_batch": micro,
                # 7e-4 at width 768, near the papers' 6e-4; narrower models take more.
                "lr": self.lr or round(0.02 / dim**0.5, 7),
                "warmup": min(self.steps, max(10, self.steps // 25)) if self.warmup is None else self.warmup,
                "swap_step": swap,
                "val_every": self.val_every or max(1, self.steps // 6),
                "name": self.name or self._usual_name(),
            }
        )

    def _usual_name(self) -> str:
        """Encoding, kernel if it is not the encoding's own, layers, seed, text if it is not the default."""
        kind, _, path = self.data.partition(":")
        text = [] if kind == "stdlib" else [PurePath(path).stem if kind == "text" else kind]
        kernel = [self.kernel] if self.kernel else []
        swap = [f"to-{self.swap_to}"] if self.swap_to else []
        return "-".join([self.encoding, *kernel, *swap, f"{self.layers}l", f"s{self.seed}", *text])

    def gpt(self, vocab_size: int) -> GPTConfig:
        """The shape of this run's model; call it on a resolved configuration."""
        shared = set(GPTConfig.model_fields) & set(RunConfig.model_fields) - {"vocab_size"}
        return GPTConfig(
            vocab_size=vocab_size,
            train_length=self.seq_len,
            **{field: getattr(self, field) for field in shared},
        )


def _heads_for(dim: int) -> int:
    """Heads of about 32 dimensions each that divide a width."""
    return min((h for h in range(1, dim + 1) if dim % h == 0), key=lambda h: abs(dim / h - 32))
