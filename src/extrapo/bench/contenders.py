"""Contenders: one layer's attention, or a whole training step, of one encoding, ready to be run again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo import encodings
from extrapo.attention import attend_encoded, choose
from extrapo.bench.baselines import BASELINES
from extrapo.bench.nanogpt import NanoGPT
from extrapo.bench.timing import Run, Stopwatch
from extrapo.config import GPTConfig
from extrapo.encodings.core.contextual import ContextualDistance
from extrapo.gpt import GPT
from extrapo.loss import mean_nll

#: The reference of every ratio: causal attention without a bias, as PyTorch has it; for a step, the model with `nope`.
PLAIN = "sdpa"

#: The baseline that is a whole model.
NANOGPT = "nanogpt"

#: What people use today, by what is timed: formulas of one layer's attention, or a model with its own loss and
#: optimiser.
TODAY: dict[str, tuple[str, ...]] = {"attention": tuple(BASELINES), "step": (NANOGPT,), "decode": ()}

#: Models of a training step, (layers, heads, width): of a laptop, of the ratios, and the 124M parameters of GPT-2.
MODELS = {"nano": (6, 4, 128), "small": (6, 8, 256), "gpt2": (12, 12, 768)}
VOCABULARIES = {"nano": 4096, "small": 4096, "gpt2": 50_304}


@dataclass(frozen=True)
class Case:
    """What one contender is and on what it runs.

    Args:
        encoding: a registered name, or several joined by `+`; `sdpa`; or a baseline.
        impl: compute path.
        length: T.
        batch: B.
        heads, head_dim: H, d of a layer's attention.
        dtype: of q, k, v; of a step's autocast.
        device: where it runs.
        size: the model of a step or of decoding, a name of MODELS.
        options: the encoding's own.
    """

    encoding: str
    impl: str
    length: int
    batch: int
    heads: int = 8
    head_dim: int = 64
    dtype: str = "float32"
    device: str = "cpu"
    size: str = "small"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Model width D = H d."""
        return self.heads * self.head_dim

    @property
    def model(self) -> tuple[int, int, int]:
        """Layers, heads and width of the model of a step."""
        return MODELS[self.size]


Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def attention(case: Case) -> tuple[Attention, nn.Module]:
    """All that happens between the projections and the output, (q, k, v, x) -> (B, H, T, d), and what it trains."""
    scale = 1 / math.sqrt(case.head_dim)
    if case.encoding == PLAIN:
        return lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale), nn.Identity()
    name = "k-cable" if case.encoding in BASELINES else case.encoding
    layer = encodings.create(name, heads=case.heads, head_dim=case.head_dim, dim=case.dim, **case.options)
    layer.to(case.device)
    if case.encoding in BASELINES:
        assert isinstance(layer, ContextualDistance)
        formula = BASELINES[case.encoding]
        return lambda q, k, v, x: formula(q, k, v, layer.positions(x, None, None), scale), layer

    def run(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
        return attend_encoded(layer.encode(q, k, v, x=x), scale=scale, impl=case.impl)

    return run, layer


def inputs(case: Case) -> list[Tensor]:
    """q, k, v (B, H, T, d) and the layer's input x (B, T, D), all of which get gradients."""
    generator = torch.Generator().manual_seed(0)
    shape = case.batch, case.heads, case.length, case.head_dim
    qkv = [torch.randn(shape, generator=generator).to(case.device, getattr(torch, case.dtype)) for _ in range(3)]
    x = torch.randn(case.batch, case.length, case.dim, generator=generator).to(case.device)
    return [tensor.requires_grad_() for tensor in (*qkv, x)]


def attention_run(case: Case) -> Run:
    """Seconds of `forward` and of `forward+backward` of one layer's attention."""
    torch.manual_seed(0)
    formula, layer = attention(case)
    q, k, v, x = inputs(case)
    receive = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(q)
    leaves = [q, k, v, *([] if case.encoding == PLAIN else [x]), *layer.parameters()]
    device = torch.device(case.device)

    def run() -> dict[str, float]:
        stopwatch = Stopwatch(device)
        out = formula(q, k, v, x)
        forward = stopwatch.lap()
        torch.autograd.grad(out, leaves, receive, allow_unused=True)
        return {"forward": forward, "forward+backward": forward + stopwatch.lap()}

    return run


def served(case: Case, kind: str = "attention") -> str:
    """The compute path that serves a case's attention, a `step` of its model, or decoding, those of layers that differ
    joined by commas; UserError where the one asked for cannot. What has to be measured for it is measured here.
    """
    if case.encoding == PLAIN or case.encoding in TODAY[kind]:
        return "-"
    if kind == "step":
        with autocast(case):
            found = model(case).choices(tokens(case, case.length))
        return ",".join(dict.fromkeys(choice.impl for choice in found))
    torch.manual_seed(0)
    layer = encodings.create(case.encoding, heads=case.heads, head_dim=case.head_dim, dim=case.dim, **case.options)
    # The numbers that will be timed: what takes longer with some than with others is measured with these.
    q, k, v, x = inputs(replace(case, length=1) if kind == "decode" else case)
    with torch.set_grad_enabled(kind != "decode"):
        encoded = layer.to(case.device).encode(q, k, v, x=x)
        # Of a token after T others: whether a back end pays depends on their number.
        keys = encoded.k.expand(-1, -1, case.length, -1) if kind == "decode" else encoded.k
        return choose(encoded.bias, encoded.q, keys, case.impl).impl


def model(case: Case) -> GPT:
    """The GPT of a training step, or of decoding."""
    torch.manual_seed(0)
    layers, heads, dim = case.model
    config = GPTConfig(
        vocab_size=VOCABULARIES[case.size],
        layers=layers,
        heads=heads,
        dim=dim,
        encoding="nope" if case.encoding == PLAIN else case.encoding,
        encoding_options=dict(case.options),
        train_length=case.length,
        impl=case.impl,
    )
    return GPT(config).to(case.device)


def autocast(case: Case) -> torch.autocast:
    """The precision of a step."""
    dtype = getattr(torch, case.dtype)
    return torch.autocast(torch.device(case.device).type, dtype=dtype, enabled=dtype != torch.float32)


def tokens(case: Case, length: int) -> Tensor:
    """(B, length) token ids."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, VOCABULARIES[case.size], (case.batch, length), generator=generator).to(case.device)


#: (B, T + 1) token ids -> the mean loss.
Loss = Callable[[Tensor], Tensor]


def trained(case: Case) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
    """The model of a training step, its loss, and its optimiser."""
    if case.encoding == NANOGPT:
        nano = nanogpt(case).train()
        return nano, lambda text: nano(text[:, :-1], text[:, 1:]), nano.optimizer(1e-4)
    gpt = model(case).train()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-4, fused=True)
    return gpt, lambda text: mean_nll(gpt.hidden(text[:, :-1]), gpt.unembedding.weight, text[:, 1:]), optimizer


def nanogpt(case: Case) -> NanoGPT:
    """The baseline of the case's size."""
    torch.manual_seed(0)
    return NanoGPT(*case.model, VOCABULARIES[case.size], case.length).to(case.device)


def num_parameters(case: Case, kind: str) -> int:
    """Of the case's model; 0 for one layer's attention."""
    if kind == "attention":
        return 0
    return sum(p.numel() for p in (nanogpt(case) if case.encoding == NANOGPT else model(case)).parameters())


def step_run(case: Case) -> Run:
    """Seconds of one training `step`: forward, loss, backward, clipping, AdamW."""
    module, loss, optimizer = trained(case)
    text = tokens(case, case.length + 1)
    device = torch.device(case.device)

    def step(text: Tensor) -> None:
        with autocast(case):
            nll = loss(text)
        nll.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def run() -> dict[str, float]:
        stopwatch = Stopwatch(device)
        step(text)
        return {"step": stopwatch.lap()}

    # Loops are compiled, and memory is fetched.
    step(text)
    return run


#: Tokens read at a time before decoding begins, and decoded in one run.
PREFILL, DECODED = 1024, 8


def decode_run(case: Case) -> Run:
    """Seconds to `decode` one token after T others, from the cache."""
    gpt = model(case).to(getattr(torch, case.dtype)).eval()
    text = tokens(case, case.length)
    begun = gpt.start(case.batch)
    for part in torch.split(text, PREFILL, dim=1):
        _, begun = gpt.step(part, begun)
    device = torch.device(case.device)

    def run() -> dict[str, float]:
        nonlocal begun
        # The first one may move the cache to a larger memory.
        _, state = gpt.step(text[:, :1], begun)
        stopwatch = Stopwatch(device)
        for _ in range(DECODED):
            _, state = gpt.step(text[:, :1], state)
        return {"decode": stopwatch.lap() / DECODED}

    return run


#: What is timed -> how to make a run of it.
KINDS: dict[str, Callable[[Case], Run]] = {"attention": attention_run, "step": step_run, "decode": decode_run}
