"""Contenders: one layer's attention, or a whole training step, of one encoding, ready to be run again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo import encodings
from extrapo.attention import attend, choose
from extrapo.bench.baselines import BASELINES
from extrapo.bench.timing import Run, Watch
from extrapo.config import GPTConfig
from extrapo.encodings import Context
from extrapo.encodings.contextual import ContextualDistance
from extrapo.gpt import GPT
from extrapo.loss import mean_nll

#: The reference of every ratio: causal attention without a bias, as PyTorch has it; for a step, the model with `nope`.
PLAIN = "sdpa"

#: The model of a training step.
STEP_LAYERS, STEP_HEADS, STEP_DIM, STEP_VOCABULARY = 6, 8, 256, 4096


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
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Model width D = H d."""
        return self.heads * self.head_dim


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
        context = Context.plain(x)
        turned = layer.transform(q, k, v, x=x, context=context, carry=None)
        bias = layer.bias(x, None, context)
        out = attend(turned.q, turned.k, turned.v, bias, scale=scale, impl=case.impl)
        return out if turned.output is None else turned.output(out)

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
        watch = Watch(device)
        out = formula(q, k, v, x)
        forward = watch.lap()
        torch.autograd.grad(out, leaves, receive, allow_unused=True)
        return {"forward": forward, "forward+backward": forward + watch.lap()}

    return run


def served(case: Case) -> str:
    """The compute path that serves a case's attention; raises UserError where the one asked for cannot."""
    if case.encoding == PLAIN or case.encoding in BASELINES:
        return "-"
    layer = encodings.create(case.encoding, heads=case.heads, head_dim=case.head_dim, dim=case.dim, **case.options)
    x = torch.zeros(1, 2, case.dim)
    q = torch.zeros(1, case.heads, 2, case.head_dim, dtype=getattr(torch, case.dtype))
    context = Context.plain(x)
    turned = layer.transform(q, q, q, x=x, context=context, carry=None)
    return choose(layer.bias(x, None, context).given(turned.q, turned.k), turned.q, case.impl).impl


def step_model(case: Case) -> GPT:
    """The GPT of a training step."""
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=STEP_VOCABULARY,
        layers=STEP_LAYERS,
        heads=STEP_HEADS,
        dim=STEP_DIM,
        encoding="nope" if case.encoding == PLAIN else case.encoding,
        encoding_options=dict(case.options),
        train_length=case.length,
        impl=case.impl,
    )
    return GPT(config).to(case.device).train()


def step_run(case: Case) -> Run:
    """Seconds of one training `step`: forward, loss, backward, AdamW."""
    model = step_model(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, STEP_VOCABULARY, (case.batch, case.length + 1), generator=generator).to(case.device)
    device, dtype = torch.device(case.device), getattr(torch, case.dtype)

    def run() -> dict[str, float]:
        watch = Watch(device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss = mean_nll(model.hidden(tokens[:, :-1]), model.unembedding.weight, tokens[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"step": watch.lap()}

    return run
