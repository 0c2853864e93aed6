"""TAPE against its updates written out token by token, and its start as RoPE."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo import GPT, GPTConfig
from extrapo.attention import attend_under
from extrapo.encodings import Context, LayerSpec, tape

HEADS, D, T, UNITS = 3, 4, 5, 6
DIM = HEADS * D
SCALE = 1 / math.sqrt(D)
THETA = [1.0, 0.01]


def layers_of(mixing: tape.Mixing, count: int = 3) -> list[tape.TAPE]:
    torch.manual_seed(1)
    found = []
    for number in range(count):
        spec = LayerSpec(HEADS, D, DIM, layer=number, layers=count)
        found.append(tape.TAPE(spec, units=UNITS, mixing=mixing).double())
    with torch.no_grad():
        for parameter in (p for layer in found for p in layer.parameters()):
            parameter.normal_(std=0.7)
    return found


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(x: Tensor, p: Tensor) -> Tensor:
    """(T, d) with plane c = (c, c + d/2) of token t multiplied by P's complex number (T, d/2)."""
    z = torch.complex(x[:, : D // 2], x[:, D // 2 :]) * p
    return torch.cat([z.real, z.imag], dim=-1)


def plain(
    layers: list[tape.TAPE], qkv: list[list[Tensor]], updates: list[Tensor], mixing: tape.Mixing, start: int
) -> list[Tensor]:
    """The output of each layer's attention (H, T, d), P being complex numbers (H, T, d/2)."""
    angles = torch.tensor([[(start + t) * theta for theta in THETA] for t in range(T)], dtype=torch.float64)
    p = torch.polar(torch.ones_like(angles), angles).expand(HEADS, -1, -1)
    outputs = []
    for layer, (q, k, v), update in zip(layers, qkv, updates, strict=True):
        attention = []
        for h in range(HEADS):
            logits = SCALE * turned(q[h], p[h]) @ turned(k[h], p[h]).T
            attention.append(logits.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf")).softmax(-1))
        outputs.append(torch.stack([attention[h] @ v[h] for h in range(HEADS)]))
        if layer is layers[-1]:
            break
        attended = [attention[e].to(p.dtype) @ p[e] for e in range(HEADS)]
        w = layer.attended
        if mixing == "scalar":
            p = torch.stack([p[h] + w[h].sum() * attended[h] for h in range(HEADS)])
        else:
            p = torch.stack([p[h] + sum(w[h, e] * attended[e] for e in range(HEADS)) for h in range(HEADS)])
        moved = []
        for h in range(HEADS):
            rows = []
            for t in range(T):
                total = p[h, t]
                for u in range(UNITS):
                    gate = F.silu(layer.gate.weight[u] @ update[t])
                    up = sum(layer.up.weight[u, e] * p[e, t] for e in range(HEADS))
                    total = total + layer.down.weight[h, u] * gate * up
                rows.append(total)
            moved.append(torch.stack(rows))
        p = torch.stack(moved)
    return outputs


@pytest.mark.parametrize("impl", ["reference", "tiles", "fold"])
@pytest.mark.parametrize("mixing", ["scalar", "heads"])
def test_formula(impl: str, mixing: tape.Mixing) -> None:
    layers = layers_of(mixing)
    qkv = [[draw(1, HEADS, T, D, seed=10 * n + c).requires_grad_() for c in range(3)] for n in range(3)]
    updates = [draw(1, T, DIM, seed=100 + n).requires_grad_() for n in range(3)]
    x = torch.zeros(1, T, DIM, dtype=torch.float64)
    context, outputs = Context.plain(x, 4), []
    for layer, (q, k, v), update in zip(layers, qkv, updates, strict=True):
        outputs.append(attend_under(layer, q, k, v, x=x, context=context, scale=SCALE, impl=impl))
        layer.update_shared(update, context)
    wanted = plain(layers, [[t[0] for t in three] for three in qkv], [u[0] for u in updates], mixing, 4)
    got, expected = torch.cat(outputs), torch.stack(wanted)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)
    receive = draw(*got.shape, seed=5)
    leaves = [*(t for three in qkv for t in three), *updates[:-1], *(p for layer in layers for p in layer.parameters())]
    grads, theirs = (torch.autograd.grad((t * receive).sum(), leaves) for t in (got, expected))
    for one, other in zip(grads, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def gpt(encoding: str, *, share: bool | None = None) -> GPT:
    torch.manual_seed(0)
    shape = {"vocab_size": 19, "layers": 3, "heads": HEADS, "dim": DIM, "train_length": 8}
    return GPT(GPTConfig(encoding=encoding, share_encoding=share, **shape)).double().eval()


def move(model: GPT) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoding" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))


def test_it_starts_as_rope() -> None:
    model, rope = gpt("tape"), gpt("rope")
    kept = model.load_state_dict(rope.state_dict(), strict=False)
    assert all("encoding" in name for name in kept.missing_keys)
    tokens = torch.arange(19).view(1, -1)
    torch.testing.assert_close(model(tokens), rope(tokens), rtol=0, atol=1e-6)
    move(model)
    assert (model(tokens) - rope(tokens)).abs().max() > 1e-5


@pytest.mark.parametrize("share", [None, True])
def test_a_pass_leaves_nothing_behind(share: bool | None) -> None:
    """On the same context twice, and where the biases are looked at on the way; also as one module for all layers."""
    model, tokens = gpt("tape", share=share), torch.arange(12).view(1, -1)
    move(model)
    context, _ = model.context(tokens)
    first = model.hidden(tokens, context=context)
    assert context.shared == {}
    model.biases(tokens)
    torch.testing.assert_close(model.hidden(tokens, context=context), first, rtol=0, atol=0)
    state = model.start(1)
    logits = []
    for t in range(12):
        out, state = model.step(tokens[:, t : t + 1], state)
        logits.append(out)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(tokens), rtol=0, atol=1e-9)


def test_the_last_layer_has_no_parameters() -> None:
    model = gpt("tape")
    counts = [sum(p.numel() for p in block.attention.encoding.parameters()) for block in model.blocks]  # type: ignore[union-attr]
    assert counts == [HEADS**2 + 48 * (DIM + 2 * HEADS)] * 2 + [0]
