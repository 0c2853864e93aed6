"""Random angles: what they depend on, how they are distributed, and the learned sizes number by number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from extrapo import GPT, GPTConfig
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.core.angles import Planes
from extrapo.encodings.core.noise import uniform
from extrapo.encodings.core.random_angles import (
    LearnedFrequencies,
    Random,
    RandomIndependent,
    RandomPositive,
    RandomShared,
    RandomTokenAngles,
    ScaledFrequencies,
)

HEADS, D, DIM, VOCAB, T = 2, 4, 8, 5, 6
PLANES = Planes(HEADS, D, DIM, base=100.0, seed=3)
THETA = torch.tensor([100.0 ** (-2 * c / D) for c in range(D // 2)], dtype=torch.float64)


def spec(layer: int = 0) -> LayerSpec:
    return LayerSpec(HEADS, D, DIM, layer=layer, layers=3, vocab_size=VOCAB)


def built(source: type[Random], planes: Planes = PLANES, layer: int = 0) -> Random:
    torch.manual_seed(0)
    return source(planes, spec(layer)).double()


def inputs(batch: int = 2, length: int = T, start: int = 0) -> tuple[Tensor, Context]:
    x = torch.zeros(batch, length, DIM, dtype=torch.float64)
    return x, Context.plain(x, start)


def test_noise_at_evaluation_is_a_function_of_seed_layer_position_and_plane() -> None:
    source = built(Random, layer=2).eval()
    got = source(*inputs(start=4))
    assert got.shape == (1, HEADS, T, D // 2), "one row for all of the batch"
    for h in range(HEADS):
        for t in range(T):
            for c in range(D // 2):
                u = 2 * float(uniform(3, 2, 0, 0, 4 + t, h * D // 2 + c)) - 1
                assert float(got[0, h, t, c]) == pytest.approx(float(THETA[c]) * u, abs=1e-15)


def test_training_draws_anew_for_each_row_and_pass() -> None:
    source = built(Random).train()
    first, second = source(*inputs()), source(*inputs())
    assert first.shape == (2, HEADS, T, D // 2)
    assert (first != second).all()
    assert (first[0] != first[1]).all()
    source.eval()
    assert torch.equal(source(*inputs()), source(*inputs()))


def test_layers_share_the_noise_or_do_not() -> None:
    for source, same in ((Random, False), (RandomIndependent, False), (RandomShared, True)):
        layers = [built(source, layer=layer)(*inputs()) for layer in range(3)]
        for other in layers[1:]:
            assert torch.equal(other, layers[0]) is same
            assert same or (other != layers[0]).all()


@pytest.mark.parametrize(("share", "angles"), [(False, "random-shared"), (True, "random"), (True, "random-shared")])
def test_one_draw_for_all_layers_of_a_pass(share: bool, angles: str) -> None:
    """In a model in training: one draw a pass, also where all layers are one module."""
    config = GPTConfig(
        encoding="accumulated-rotation",
        encoding_options={"angles": angles},
        share_encoding=share,
        layers=3,
        heads=HEADS,
        dim=DIM,
        vocab_size=VOCAB,
    )
    model, seen = GPT(config).train(), []
    for block in model.blocks[: 1 if share else 3]:
        block.attention.encoding.angles.register_forward_hook(lambda _, __, out: seen.append(out))
    for _ in range(2):
        model(torch.zeros(2, T, dtype=torch.int64))
    first, second = seen[:3], seen[3:]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    assert torch.equal(second[0], second[2])
    assert (first[0] != second[0]).all()


def test_streams_and_seeds_are_independent() -> None:
    source = built(RandomIndependent).eval()
    x, context = inputs(length=4000)
    streams = [source(x, context, stream) for stream in (0, 1)]
    streams.append(built(RandomIndependent, replace(PLANES, seed=4)).eval()(x, context))
    for i in range(3):
        for j in range(i):
            pair = torch.stack([streams[i].flatten(), streams[j].flatten()])
            assert abs(torch.corrcoef(pair)[0, 1]) < 0.04


def test_coherence_is_that_of_uniform_angles() -> None:
    """|E exp(i (delta_1 + ... + delta_n))| = (sin theta / theta)^n, plane by plane.

    At width 96 and base 10,000, 8, 13 and 18 of the 48 planes fall below 1/2 within 64, 512 and 4,096 tokens.
    """
    planes = Planes(1, 96, 96)
    theta = planes.theta(torch.zeros(1))
    shrinks = theta.sin() / theta
    assert [int((shrinks**n < 0.5).sum()) for n in (64, 512, 4096)] == [8, 13, 18]
    source = Random(planes, spec()).train()
    x = torch.zeros(500, 64, 96)
    turned = source(x, Context.plain(x)).sum(2).squeeze(1)
    measured = torch.polar(torch.ones_like(turned), turned).mean(0).abs()
    assert (measured - shrinks**64).abs().max() < 4 / math.sqrt(500)


def test_positive_angles() -> None:
    x, context = inputs(length=4000)
    got = built(RandomPositive).eval()(x, context)
    assert (got >= 0).all()
    assert (got <= 2 * THETA).all()
    torch.testing.assert_close(got.mean((0, 1, 2)), THETA, rtol=0.03, atol=0)
    symmetric = built(Random).eval()(x, context)
    assert (symmetric.mean((0, 1, 2)).abs() < 0.03 * THETA).all()
    torch.testing.assert_close(got - THETA, symmetric)


def normalised(values: list[float], gain: list[float], bias: list[float]) -> list[float]:
    """LayerNorm of one token."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
    return [(v - mean) / spread * g + b for v, g, b in zip(values, gain, bias, strict=True)]


@pytest.mark.parametrize("kind", [RandomTokenAngles, LearnedFrequencies, ScaledFrequencies])
def test_learned_sizes(kind: type[Random]) -> None:
    source = built(kind, layer=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x, residual = torch.randn(2, 2, T, DIM, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, VOCAB, (2, T), generator=generator)
    got = source(x, replace(Context.plain(x), tokens=tokens, residual=residual))
    plain = built(Random).eval()(x, Context.plain(x)) / THETA
    for b in range(2):
        for t in range(T):
            if kind is RandomTokenAngles:
                norm, raw = source.common, source.table[tokens[b, t]]
            else:
                network, norm = source.common
                first, _, second = network.children()
                hidden = first.weight @ residual[b, t] + first.bias
                raw = second.weight @ (0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))) + second.bias
            size = normalised(raw.tolist(), norm.weight.tolist(), norm.bias.tolist())
            for h in range(HEADS):
                for c in range(D // 2):
                    u, n = float(plain[0, h, t, c]), size[h * D // 2 + c]
                    expected = {
                        RandomTokenAngles: float(THETA[c]) * u * (1 + math.tanh(n)),
                        LearnedFrequencies: u * abs(n),
                        ScaledFrequencies: u * abs(float(THETA[c]) * n),
                    }[kind]
                    assert float(got[b, h, t, c].detach()) == pytest.approx(expected, abs=1e-12)


def test_rpemb_starts_as_random() -> None:
    x, context = inputs()
    token_angles = built(RandomTokenAngles).eval()(x, context)
    torch.testing.assert_close(token_angles, built(Random).eval()(x, context))
