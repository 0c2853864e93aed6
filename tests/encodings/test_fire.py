"""FIRE against its printed distances and its network, pair by pair, in values and gradients."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.fire import FIRE
from extrapo.errors import UserError

H = 3
#: n -> ln(0.1 n + 1) / ln(0.1 * 512 + 1).
NORMALISED = {0: 0.0, 1: 0.024098, 10: 0.175255, 100: 0.606282, 511: 0.999515, 512: 1.0}


def test_normalised_distances() -> None:
    # One hidden unit that hands its input on: the bias is the normalised distance.
    layer = FIRE(LayerSpec(1, 4, 4), width=1).double()
    with torch.no_grad():
        layer.hidden.weight.fill_(1.0)
        layer.hidden.bias.zero_()
        layer.output.weight.fill_(1.0)
    positions = torch.tensor([512 - n for n in reversed(NORMALISED)], dtype=torch.float64).view(1, 1, -1)
    x = torch.zeros(1, len(NORMALISED), 4, dtype=torch.float64)
    last = layer.bias(x, None, Context(positions)).added(slice(5, 6)).flatten()
    torch.testing.assert_close(
        last.detach(), torch.tensor(list(reversed(NORMALISED.values())), dtype=torch.float64), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
@pytest.mark.parametrize("threshold", [4.0, 512.0])
def test_formula(activation: Literal["relu", "leaky-relu"], threshold: float) -> None:
    torch.manual_seed(0)
    layer = FIRE(LayerSpec(H, 4, 4 * H), threshold=threshold, width=5, activation=activation).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        # Signs that only the absolute values forgive.
        layer.c.neg_()
        layer.multiplier.neg_()
    length = 11
    tile = layer.bias(torch.zeros(1, length, 4 * H, dtype=torch.float64)).added(slice(0, length))[0]
    receive = torch.randn(H, length, length, dtype=torch.float64).tril()

    def psi(z: torch.Tensor | int) -> torch.Tensor:
        return torch.log(torch.abs(layer.c * z) + 1)

    weighed = torch.zeros((), dtype=torch.float64)
    for i in range(length):
        floor = torch.abs(layer.multiplier * threshold)
        row = psi(i if i > floor else floor) + 1e-6
        for j in range(i + 1):
            hidden = layer.hidden.weight[:, 0] * psi(i - j) / row + layer.hidden.bias
            slope = 0.0 if activation == "relu" else 0.01
            biases = layer.output.weight @ torch.where(hidden > 0, hidden, slope * hidden)
            torch.testing.assert_close(tile[:, i, j], biases)
            weighed = weighed + (receive[:, i, j] * biases).sum()
    leaves = list(layer.parameters())
    found = zip(
        torch.autograd.grad((tile * receive).sum(), leaves, allow_unused=True),
        torch.autograd.grad(weighed, leaves, allow_unused=True),
        strict=True,
    )
    for ours, theirs in found:
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_stays_bounded_far_past_the_threshold() -> None:
    layer = FIRE(LayerSpec(H, 4, 4 * H), threshold=16.0)
    far = layer.bias(torch.zeros(1, 3000, 4 * H)).added(slice(2999, 3000))
    # The oldest key of any row stands at 1, the query itself at 0.
    row = layer.bias(torch.zeros(1, 200, 4 * H)).added(slice(199, 200))
    torch.testing.assert_close(far[..., 0], row[..., 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(far[..., -1], row[..., -1])


def test_options_that_cannot_be() -> None:
    with pytest.raises(UserError, match="threshold must be positive"):
        FIRE(LayerSpec(H, 4, 4 * H), threshold=0.0)
