"""Adaptive Positional Encoding against its formula pair by pair, its reductions, and the entropies it measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend, attend_under
from extrapo.encodings import Context, Elementwise, Encoding
from extrapo.encodings.adaptive import Entropies
from extrapo.errors import UserError
from extrapo.kernels.base import Positive

HEADS, D, T = 2, 6, 9
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def draws(length: int = T) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, length, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v, torch.randn(2, length, HEADS * D, generator=generator, dtype=torch.float64)


def layer_of(**options: Any) -> Encoding:
    """In evaluation, its parameters and what it measured moved off their starting values."""
    torch.manual_seed(1)
    layer = encodings.create("adaptive", **SHAPE, **options).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 + 0.1 * torch.rand_like(parameter))
        if layer.entropies is not None:
            layer.entropies.mean.mul_(torch.rand_like(layer.entropies.mean))
            layer.entropies.measured.fill_(3)
    return layer


def logits(layer: Encoding, q: Tensor, k: Tensor, x: Tensor) -> Tensor:
    context = Context.plain(x)
    transformed = layer.transform(q, k, k, x=x, context=context, state=None)
    bias = layer.bias(x, None, context)
    return bias.score_rows(transformed.q, transformed.k, SCALE, slice(0, x.size(1))).tril()


def plain(layer: Encoding, q: Tensor, k: Tensor, options: dict[str, Any]) -> Tensor:
    """The formula, pair by pair and plane by plane, in complex numbers."""
    out = torch.zeros(*q.shape[:3], q.size(2), dtype=torch.float64)
    parts = dict(layer.kernel.named_children())
    for h in range(HEADS):
        for i in range(q.size(2)):
            for j in range(i + 1):
                n = i - j
                if layer.alpha is not None:
                    alpha = layer.alpha()[h, 0, 0]
                elif layer.entropies is None:
                    alpha = 1 + layer.stretch()[h, 0, 0] * math.log(1 + n)
                else:
                    # Three nodes are measured, at 1, 2 and 4 keys; what is longer holds the last.
                    x = min(math.log2(1 + n), 2.0)
                    low = min(int(x), 1)
                    left, right = layer.entropies.mean[h, low], layer.entropies.mean[h, low + 1]
                    alpha = 1 + layer.stretch()[h, 0, 0] * (left + (x - low) * (right - left))
                content = torch.zeros(q.size(0), dtype=torch.float64)
                for c in range(D // 2):
                    theta = options.get("theta") or 10_000 ** (-2 * c / D)
                    a = torch.complex(q[:, h, i, c], q[:, h, i, c + D // 2])
                    b = torch.complex(k[:, h, j, c], k[:, h, j, c + D // 2])
                    turn = n / alpha * theta
                    content = content + (a * b.conj() * torch.complex(turn.cos(), turn.sin())).real
                factor = 1.0 if layer.damping is None else 1 / (1 + layer.damping()[h, 0, 0] * n)
                bias = torch.zeros((), dtype=torch.float64)
                for term, form in (("delta", n), ("beta", math.log(1 + n)), ("gamma", math.sqrt(n))):
                    if term in parts:
                        bias = bias - parts[term]()[h, 0, 0] * form
                out[:, h, i, j] = SCALE * factor * content + bias
    return out


@pytest.mark.parametrize("mode", ["log", "const", "ema"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"theta": 0.7},
        {"temperature": False, "log": False},
        {"linear": False, "sqrt": False},
        {"linear": False, "log": False, "sqrt": False, "temperature": False},
    ],
)
def test_formula(mode: str, options: dict[str, Any]) -> None:
    layer = layer_of(alpha_mode=mode, **options)
    q, k, _, x = draws()
    q.requires_grad_()
    k.requires_grad_()
    receive = torch.randn(2, HEADS, T, T, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected, got = plain(layer, q, k, options), logits(layer, q, k, x)
    # The chord of the square root below n = 1e-6 costs nothing here.
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    leaves = [q, k, *layer.parameters()]
    wanted = torch.autograd.grad((receive * expected).sum(), leaves)
    found = torch.autograd.grad((receive * got).sum(), leaves)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def silence(parameter: Positive) -> None:
    """softplus(-80) is 1e-35."""
    with torch.no_grad():
        parameter.raw.fill_(-80.0)


@pytest.mark.parametrize("mode", ["log", "const", "ema"])
def test_without_temperature_bias_and_stretch_it_is_rope(mode: str) -> None:
    layer = encodings.create("adaptive", **SHAPE, alpha_mode=mode).double()
    silence(layer.damping)
    for term in (layer.kernel.delta, layer.kernel.beta, layer.kernel.gamma):
        silence(term)
    if layer.stretch is not None:
        silence(layer.stretch)
    q, k, _, x = draws()
    torch.testing.assert_close(logits(layer, q, k, x), rope_logits(q, k, x), rtol=0, atol=1e-6)


def test_with_everything_switched_off_it_is_rope_and_as_cheap() -> None:
    off = dict.fromkeys(("temperature", "linear", "log", "sqrt"), False)
    layer = encodings.create("adaptive", **SHAPE, alpha_mode="const", **off).double()
    assert [name for name, _ in layer.named_parameters()] == ["alpha.raw"]
    q, k, _, x = draws()
    assert layer.bias(x).additive
    torch.testing.assert_close(logits(layer, q, k, x), rope_logits(q, k, x), rtol=0, atol=1e-6)


def rope_logits(q: Tensor, k: Tensor, x: Tensor) -> Tensor:
    transformed = encodings.create("rope", **SHAPE).transform(q, k, k, x=x, context=Context.plain(x), state=None)
    return (SCALE * transformed.q @ transformed.k.transpose(-1, -2)).tril()


@pytest.mark.parametrize("mode", ["log", "const", "ema"])
def test_with_the_linear_term_alone_and_no_turn_it_is_alibi(mode: str) -> None:
    off = dict.fromkeys(("temperature", "log", "sqrt"), False)
    layer = encodings.create("adaptive", **SHAPE, alpha_mode=mode, theta=0.0, **off).double()
    q, k, v, x = draws()
    expected = attend(q, k, v, encodings.create("alibi", **SHAPE).bias(x), scale=SCALE, impl="reference")
    got = attend_under(layer, q, k, v, x=x, scale=SCALE, impl="reference")
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_a_very_slow_rotation_leaves_alibi() -> None:
    off = dict.fromkeys(("temperature", "log", "sqrt"), False)
    layer = encodings.create("adaptive", **SHAPE, alpha_mode="const", **off).double()
    with torch.no_grad():
        layer.alpha.raw.fill_(1e12)
    q, k, _, x = draws()
    expected = SCALE * q @ k.transpose(-1, -2) + encodings.create("alibi", **SHAPE).bias(x).added(slice(0, T))
    torch.testing.assert_close(logits(layer, q, k, x), expected.tril(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"kernel": "cauchy-log"}, {"kernel": "mlp-log"}])
def test_with_a_constant_alpha_a_logit_is_a_product_and_a_sum(options: dict[str, Any]) -> None:
    """Number by number, the same along every diagonal; a network's values are a tile of their own."""
    layer = layer_of(alpha_mode="const", **options)
    q, k, _, x = draws()
    bias = layer.bias(x)
    assert isinstance(bias, Elementwise)
    assert bias.low_rank() is None
    assert bias.pointwise() is ("mlp-log" not in options.values())
    rows = slice(0, T)
    score = SCALE * q @ k.transpose(-1, -2)
    expected = bias.score_rows(q, k, SCALE, rows)
    for same in (bias, bias.whole_text()):
        torch.testing.assert_close(same.logit(score, *same.factors(rows)), expected)
    temperature, added = bias.line()
    torch.testing.assert_close(score[:, :, -1:] * temperature + added, expected[:, :, -1:])


@pytest.mark.parametrize("options", [{}, {"kernel": "mlp-log"}, {"temperature": False}])
def test_decoding_keeps_the_line_of_the_step_before(options: dict[str, Any]) -> None:
    layer = layer_of(alpha_mode="const", **options)
    q, k, v, x = draws()
    whole, state = layer.encode(q, k, v, x=x), None
    expected = whole.bias.score_rows(whole.q, whole.k, SCALE, slice(0, T))
    with torch.no_grad():
        for t in range(T):
            one = slice(t, t + 1)
            step = layer.encode(q[:, :, one], k[:, :, one], v[:, :, one], x=x[:, one], state=state)
            state = step.state
            score = SCALE * step.q @ step.k.transpose(-1, -2)
            logits = step.bias.logit(score, *step.bias.factors(slice(0, 1)))
            torch.testing.assert_close(logits[:, :, 0], expected[:, :, t, : t + 1], rtol=0, atol=1e-10)
            if t:
                temperature, added = step.bias.cached_line()
                again = added + (score if temperature is None else score * temperature)
                torch.testing.assert_close(again, logits, rtol=0, atol=1e-10)


def test_starting_values() -> None:
    layer = encodings.create("adaptive", **SHAPE)
    delta, beta, gamma = (value.flatten().tolist() for value in layer.kernel.values())
    assert delta == pytest.approx([2.0**-4, 2.0**-8])
    assert beta == gamma == pytest.approx([0.1, 0.1])
    assert layer.damping().flatten().tolist() == pytest.approx([1e-3, 1e-3])
    assert layer.stretch().flatten().tolist() == pytest.approx([0.1, 0.1])


def test_terms_belong_to_their_kernel() -> None:
    assert sum(p.numel() for p in encodings.create("adaptive", **SHAPE, log=False).kernel.parameters()) == 2 * HEADS
    with pytest.raises(UserError, match="terms of 'three-term', not of 'cauchy-log'"):
        encodings.create("adaptive", **SHAPE, kernel="cauchy-log", sqrt=False)
    with pytest.raises(UserError, match="momentum must lie in"):
        encodings.create("adaptive", **SHAPE, alpha_mode="ema", momentum=1.0)


# -- the entropies ---------------------------------------------------------------------------------------------------


def test_entropies_of_uniform_windows_are_the_log_mode() -> None:
    q, k, _, x = draws()
    layers = [encodings.create("adaptive", **SHAPE, alpha_mode=mode).double() for mode in ("ema", "log")]
    torch.testing.assert_close(*(logits(layer, q, k, x) for layer in layers), rtol=0, atol=1e-6)


@pytest.mark.parametrize("impl", ["reference", "tiles"])
def test_a_training_pass_measures_each_row_once(impl: str) -> None:
    """By its own logits as they were before the update, whatever the path, and though a backward pass repeats it."""
    length, momentum = 37, 0.8
    layer = encodings.create("adaptive", **SHAPE, alpha_mode="ema", momentum=momentum).double()
    q, k, v, x = draws(length)
    q.requires_grad_()
    before = layer.entropies.mean.clone()
    weights = logits(layer, q, k, x).detach()
    weights = weights.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf")).softmax(-1)
    expected = before.clone()
    for node, row in enumerate((0, 1, 3, 7, 15, 31)):
        for h in range(HEADS):
            entropy = -sum(float((p * p.log()).sum()) for p in weights[:, h, row, : row + 1]) / 2
            expected[h, node] = momentum * before[h, node] + (1 - momentum) * entropy
    attend(q, k, v, layer.bias(x), scale=SCALE, impl=impl).square().sum().backward()
    torch.testing.assert_close(layer.entropies.mean, expected, rtol=0, atol=1e-10)
    assert layer.entropies.measured == 6
    attend(q, k, v, layer.eval().bias(x), scale=SCALE, impl=impl)
    torch.testing.assert_close(layer.entropies.mean, expected, rtol=0, atol=1e-10)


def test_texts_longer_than_any_seen_hold_the_last_entropy() -> None:
    entropies = Entropies(1, 0.0)
    assert entropies()[0, :3].tolist() == pytest.approx([0, math.log(2), math.log(4)])
    entropies.update(0, torch.ones(1, 1, 1))
    entropies.update(2, torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]))
    assert entropies()[0, 2:].tolist() == pytest.approx([math.log(2)] * 30)
    entropies.update(1, torch.tensor([[[0.0, 1.0]]]))
    assert entropies()[0, :4].tolist() == pytest.approx([0, 0, math.log(2), math.log(2)])


def test_a_checkpoint_keeps_what_was_measured() -> None:
    first, second = (encodings.create("adaptive", **SHAPE, alpha_mode="ema") for _ in range(2))
    first.entropies.update(1, torch.tensor([[[0.9, 0.1]] * HEADS]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.entropies(), second.entropies())
