"""FoX against its formula in loops, the starts of its gates, and its identity with Cable."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from extrapo import encodings
from extrapo.attention import attend
from extrapo.errors import UserError

HEADS, D = 2, 4
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def draw(length: int = 7) -> torch.Tensor:
    return torch.randn(1, length, HEADS * D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def create(name: str, **options: Any) -> encodings.Encoding:
    torch.manual_seed(0)
    layer = encodings.create(name, **SHAPE, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def dense(layer: encodings.Encoding, x: torch.Tensor) -> torch.Tensor:
    return layer.bias(x).added(slice(0, x.size(1))).expand(1, HEADS, -1, -1)[0].detach().tril()


@pytest.mark.parametrize(("scale", "factor"), [("none", 1.0), ("s", 1 / math.sqrt(D))])
@pytest.mark.parametrize("source", ["full", "head"])
def test_formula(scale: str, factor: float, source: str) -> None:
    layer, x = create("fox", gate_scale=scale, input=source), draw()
    weights, got = {name: value.detach() for name, value in layer.named_parameters()}, dense(layer, x)
    for h in range(HEADS):
        read = x[0] if source == "full" else x[0, :, h * D : (h + 1) * D]
        z = read @ weights["contextual.projection.weight"][h] + weights["contextual.projection.bias"][h]
        forget = [1 / (1 + math.exp(-float(each))) for each in z]
        for i in range(7):
            for j in range(i + 1):
                expected = factor * sum(math.log(forget[m]) for m in range(j + 1, i + 1))
                assert float(got[h, i, j]) == pytest.approx(expected, abs=1e-10)


def test_it_is_cable_with_the_sign_of_the_pre_activation_turned() -> None:
    fox, cable = create("fox"), create("cable")
    cable.load_state_dict({name: -value for name, value in fox.state_dict().items()})
    assert torch.equal(dense(fox, draw()), dense(cable, draw()))


def test_the_start_of_the_gates() -> None:
    start = encodings.create("fox", **SHAPE).contextual.projection.bias
    assert not start.any()
    shape = {"heads": 3, "head_dim": 4, "dim": 12}
    layers = [encodings.create("fox", **shape, t_min=t, t_max=512.0) for t in (10.0, 100.0)]
    biases = [layer.contextual.projection.bias.detach() for layer in layers]
    assert [float(b[0]) for b in biases] == pytest.approx([2.2522, 4.6002], abs=1e-4)
    assert float(biases[0][2]) == pytest.approx(6.2373, abs=1e-4)
    # In the middle of the logarithms: ln f = -1 / sqrt(10 * 512).
    middle = math.log(1 / (1 + math.exp(-float(biases[0][1]))))
    assert middle == pytest.approx(-1 / math.sqrt(5120), rel=1e-5)


def test_a_fixed_gate_is_a_line_that_does_not_train() -> None:
    layer = encodings.create("fox", **SHAPE, gate="fixed", t_min=2.0, t_max=50.0)
    assert not list(layer.parameters())
    n = torch.arange(7.0).view(-1, 1) - torch.arange(7.0)
    expected = -torch.stack([n / 2, n / 50]).tril()
    torch.testing.assert_close(dense(layer, draw().float()), expected)


def test_a_gate_of_its_bias_alone() -> None:
    layer = encodings.create("fox", **SHAPE, gate="bias-only")
    (bias,) = layer.parameters()
    assert bias.numel() == HEADS
    n = torch.arange(7.0).view(-1, 1) - torch.arange(7.0)
    torch.testing.assert_close(dense(layer, draw().float()), -math.log(2) * n.tril().expand(2, 7, 7))
    with torch.no_grad():
        bias.fill_(-1.5)
    # The parameter is -beta: f = sigma(1.5).
    cost = math.log(1 + math.exp(-1.5))
    torch.testing.assert_close(dense(layer, draw().float()), -cost * n.tril().expand(2, 7, 7))


@pytest.mark.parametrize("scale", ["none", "s"])
@pytest.mark.parametrize("gate", ["full", "bias-only"])
def test_the_factor_is_folded_too(gate: str, scale: str) -> None:
    layer = create("fox", gate=gate, gate_scale=scale)
    q, k, v = torch.randn(3, 1, HEADS, 7, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = (0.5 * q @ k.transpose(-1, -2) + dense(layer, draw())).masked_fill(
        torch.ones(7, 7).triu(1).bool(), -torch.inf
    )
    for impl in ("fold", "tiles"):
        got = attend(q, k, v, layer.bias(draw()), scale=0.5, impl=impl)
        torch.testing.assert_close(got, expected.softmax(-1) @ v)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "fixed"}, "needs t_min and t_max"),
        ({"t_min": 3.0}, "must both be positive"),
        ({"t_min": 3.0, "t_max": -1.0}, "must both be positive"),
        ({"gate": "none"}, "gate must be 'full', 'bias-only' or 'fixed'"),
        ({"kernel": "log"}, "has no kernel to choose"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encodings.create("fox", **SHAPE, **options)


def test_formula_of_the_gate_per_row() -> None:
    layer, x = create("fox-per-row", gate_dim=3), draw()
    got = dense(layer, x)
    both = x[0] @ layer.gates.weight.detach().T
    for h in range(HEADS):
        reader, token = (both[:, part + 3 * h : part + 3 * h + 3] for part in (0, 3 * HEADS))
        for i in range(7):
            for j in range(i + 1):
                logits = [float(reader[i] @ token[m]) / math.sqrt(3) for m in range(j, i)]
                expected = -sum(math.log(1 + math.exp(-z)) for z in logits)
                assert float(got[h, i, j]) == pytest.approx(expected, abs=1e-10)


def test_the_gate_per_row_goes_on_while_decoding() -> None:
    layer, x = create("fox-per-row"), draw()
    past = layer.bias(x[:, :3])
    later = layer.bias(x[:, 3:], past)
    assert later.shape == (1, HEADS, 4, 7)
    torch.testing.assert_close(later.added(slice(0, 4))[0].tril(3), dense(layer, x)[:, 3:], rtol=0, atol=1e-12)
