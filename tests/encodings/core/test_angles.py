"""Angles of tokens, from tables, networks and hashes, each against its formula number by number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from extrapo import GPT, GPTConfig
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.core.angles import (
    Angles,
    Codebook,
    LinearAngles,
    Planes,
    TokenAngles,
    TokenNetworkAngles,
    TokenSigns,
)
from extrapo.errors import UserError

HEADS, D, DIM, VOCAB, T = 2, 4, 8, 5, 6
PLANES = Planes(HEADS, D, DIM, base=100.0, templates=3)
THETA = [100.0 ** (-2 * c / D) for c in range(D // 2)]


def spec(layer: int = 0) -> LayerSpec:
    return LayerSpec(HEADS, D, DIM, layer=layer, layers=3, vocab_size=VOCAB)


def built(source: type[Angles], planes: Planes = PLANES, layer: int = 0) -> Angles:
    """The source in float64, its parameters moved off their starting values."""
    torch.manual_seed(0)
    angles = source(planes, spec(layer))
    with torch.no_grad():
        for parameter in angles.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return angles.double().eval()


def inputs() -> tuple[Tensor, Context]:
    """The normed input, and a context whose residual stream is another tensor."""
    generator = torch.Generator().manual_seed(1)
    x, residual = torch.randn(2, 2, T, DIM, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, VOCAB, (2, T), generator=generator)
    return x, replace(Context.plain(x), tokens=tokens, residual=residual)


def places() -> list[tuple[int, int, int, int]]:
    """All (row, head, token, plane)."""
    return [(b, h, t, c) for b in range(2) for h in range(HEADS) for t in range(T) for c in range(D // 2)]


def affine(weight: Tensor, bias: Tensor | None, x: list[float]) -> list[float]:
    rows = weight.tolist()
    offsets = [0.0] * len(rows) if bias is None else bias.tolist()
    return [sum(w * a for w, a in zip(row, x, strict=True)) + b for row, b in zip(rows, offsets, strict=True)]


def mlp(network: torch.nn.Module, x: list[float]) -> list[float]:
    first, _, second = network.children()
    hidden = [0.5 * a * (1 + math.erf(a / math.sqrt(2))) for a in affine(first.weight, first.bias, x)]
    return affine(second.weight, second.bias, hidden)


def test_pemb() -> None:
    source, (x, context) = built(TokenAngles), inputs()
    got = source(x, context)
    assert got.dtype == torch.float64
    for b, h, t, c in places():
        e = float(source.table[context.tokens[b, t], h * D // 2 + c].detach())
        assert float(got[b, h, t, c].detach()) == pytest.approx(math.pi * math.tanh(e) - THETA[c], abs=1e-12)


def test_pmlp() -> None:
    source, (x, context) = built(TokenNetworkAngles), inputs()
    got = source(x, context)
    for b, h, t, c in places():
        n = h * D // 2 + c
        e = float(source.table[context.tokens[b, t], n].detach())
        correction = math.tanh(mlp(source.common, context.residual[b, t].tolist())[n])
        expected = math.pi * math.tanh(e) - THETA[c] + float(source.scale.detach()) * math.pi * correction
        assert float(got[b, h, t, c].detach()) == pytest.approx(expected, abs=1e-12)


def test_linear_reads_the_normed_input() -> None:
    source, (x, context) = built(LinearAngles), inputs()
    got = source(x, context)
    for b, h, t, c in places():
        expected = affine(source.projection.weight, source.projection.bias, x[b, t].tolist())[h * D // 2 + c]
        assert float(got[b, h, t, c].detach()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("source", [TokenAngles, TokenNetworkAngles])
def test_learned_tables_start_as_rope(source: type[Angles]) -> None:
    angles, (x, context) = source(PLANES, spec()), inputs()
    expected = -torch.tensor(THETA, dtype=torch.float64).expand(2, HEADS, T, -1)
    torch.testing.assert_close(angles(x, context), expected, rtol=0, atol=1e-15)


def test_codebook_takes_the_best_template() -> None:
    source, (x, context) = built(Codebook), inputs()
    got, chosen = source(x, context), set()
    for b in range(2):
        for t in range(T):
            rows = source.common.weight[context.tokens[b, t]].view(PLANES.templates, -1).tolist()
            angles = [[math.pi * math.tanh(c) - THETA[n % (D // 2)] for n, c in enumerate(row)] for row in rows]
            wanted = affine(source.projection.weight, None, context.residual[b, t].tolist())
            scores = [sum(a * w for a, w in zip(row, wanted, strict=True)) for row in angles]
            best = scores.index(max(scores))
            chosen.add(best)
            flat = got[b, :, t].flatten().tolist()
            assert flat == pytest.approx(angles[best], abs=1e-12)
    assert len(chosen) == PLANES.templates, "a test of the choice needs all to be chosen"


def test_codebook_gradient_is_straight_through() -> None:
    """The choice's gradient is the softmax's: d/d score_k = p_k (g . a_k - sum over l of p_l g . a_l)."""
    source, (x, context) = built(Codebook), inputs()
    receive = torch.randn(2, HEADS, T, D // 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (got,) = torch.autograd.grad((source(x, context) * receive).sum(), [source.projection.weight])
    expected = torch.zeros_like(got)
    for b in range(2):
        for t in range(T):
            angles = math.pi * source.common.weight[context.tokens[b, t]].view(PLANES.templates, -1).tanh().detach()
            stream, g = context.residual[b, t], receive[b, :, t].flatten()
            p = (angles @ (source.projection.weight.detach() @ stream)).softmax(0)
            worth = angles @ g
            for k in range(PLANES.templates):
                slope = p[k] * (worth[k] - p @ worth)
                expected += slope * torch.outer(angles[k], stream)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_signs_belong_to_token_ids() -> None:
    planes = Planes(4, 32, 128)
    source, x = TokenSigns(planes, spec()), torch.zeros(1, 400, 128)
    tokens = torch.arange(400).unsqueeze(0)
    got = source(x, replace(Context.plain(x), tokens=tokens))
    theta = planes.theta(x)
    torch.testing.assert_close(got.abs(), theta.expand_as(got))
    positive = (got > 0).double()
    assert abs(positive.mean() - 0.5) < 0.01
    assert ((positive.mean(2) - 0.5).abs() < 0.15).all(), "no plane takes a side"
    moved = source(x, replace(Context.plain(x, start=9), tokens=tokens.flip(-1)))
    assert torch.equal(moved.flip(2), got), "the same token has the same signs wherever it stands"
    other = TokenSigns(replace(planes, seed=1), spec())(x, replace(Context.plain(x), tokens=tokens))
    assert 0.45 < (other != got).double().mean() < 0.55


def test_without_tokens_all_count_as_one() -> None:
    source, (x, _) = built(TokenAngles), inputs()
    got = source(x, Context.plain(x))
    assert got.shape == (1, HEADS, T, D // 2)
    assert torch.equal(got, got[:, :, :1].expand_as(got))


@pytest.mark.parametrize("angles", ["pmlp", "lf", "fsr", "rpemb", "codebook"])
def test_the_first_layer_owns_what_serves_all(angles: str) -> None:
    config = GPTConfig(
        encoding="accumulated-rotation",
        encoding_options={"angles": angles},
        layers=3,
        heads=HEADS,
        dim=DIM,
        vocab_size=VOCAB,
    )
    torch.manual_seed(0)
    model = GPT(config)
    owners = {name.split(".")[1] for name, _ in model.named_parameters() if ".common." in name}
    assert owners == {"0"}
    later = model.blocks[1].attention.encoding
    x, q = torch.zeros(1, T, DIM), torch.zeros(1, HEADS, T, D)
    with pytest.raises(UserError, match="no other can run alone"):
        later.transform(q, q, q, x=x, context=Context.plain(x), state=None)


def test_later_layers_use_the_first_one_s_network() -> None:
    options = {"angles": "pmlp"}
    config = GPTConfig(
        encoding="accumulated-rotation", encoding_options=options, layers=2, heads=HEADS, dim=DIM, vocab_size=VOCAB
    )
    torch.manual_seed(0)
    model = GPT(config).eval()
    tokens = torch.randint(0, VOCAB, (1, T))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        # The first layer itself does not use its network.
        model.blocks[0].attention.encoding.angles.scale.zero_()
        before = model(tokens)
        model.blocks[0].attention.encoding.angles.common[0].weight.neg_()
        assert (model(tokens) - before).abs().max() > 1e-3
