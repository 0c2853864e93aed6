"""The dynamic bias against its network, run on one pair at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.dynamic import DynamicBias

H, DIM = 3, 24


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_formula(depth: int) -> None:
    torch.manual_seed(0)
    layer = DynamicBias(LayerSpec(H, 8, DIM), depth=depth).double()
    positions = [0, 1, 4, 5, 11, 40]
    context = Context(torch.tensor(positions, dtype=torch.float64).view(1, 1, -1))
    tile = layer.bias(torch.zeros(1, 6, DIM, dtype=torch.float64), None, context).added(slice(0, 6))[0]
    receive = torch.randn(H, 6, 6, dtype=torch.float64).tril()
    *hidden, output = layer.parameters()
    assert len(hidden) == 2 * depth
    weighed = torch.zeros((), dtype=torch.float64)
    for i in range(6):
        for j in range(i + 1):
            z = torch.tensor([math.log(1 + positions[i] - positions[j])], dtype=torch.float64)
            for weight, bias in zip(hidden[0::2], hidden[1::2], strict=True):
                z = F.silu(weight @ z + bias)
            expected = output.view(H, -1) @ z
            torch.testing.assert_close(tile[:, i, j], expected)
            weighed = weighed + (receive[:, i, j] * expected).sum()
    leaves = list(layer.parameters())
    for ours, theirs in zip(
        torch.autograd.grad((tile * receive).sum(), leaves), torch.autograd.grad(weighed, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_width_is_a_quarter_of_the_models() -> None:
    assert layer_width(DynamicBias(LayerSpec(H, 8, DIM))) == 6
    assert layer_width(DynamicBias(LayerSpec(H, 8, DIM), width=5)) == 5


def layer_width(layer: DynamicBias) -> int:
    return layer.kernel.hidden[0].out_features


def test_the_network_sees_a_distance_once() -> None:
    layer, seen = DynamicBias(LayerSpec(H, 8, DIM)), []
    layer.kernel.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    layer.bias(torch.zeros(2, 50, DIM)).added(slice(0, 50))
    assert seen == [50]
