"""The relative projection bias against its formula, pair by pair, in values and gradients."""

from __future__ import annotations

import pytest
import torch

from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.relative_projection import RelativeProjection
from extrapo.errors import UserError

H, DIM, CURVES = 2, 6, 3


@pytest.mark.parametrize("length", [1, 4, 100])
def test_formula(length: int) -> None:
    torch.manual_seed(0)
    layer = RelativeProjection(LayerSpec(H, 3, DIM), curves=CURVES, length=length).double()
    positions = [0, 1, 2, 5, 6, 9]
    x = torch.randn(2, 6, DIM, dtype=torch.float64, requires_grad=True)
    context = Context(torch.tensor(positions, dtype=torch.float64).view(1, 1, -1))
    tile = layer.bias(x, None, context).added(slice(0, 6))
    receive = torch.randn(2, H, 6, 6, dtype=torch.float64).tril()
    weighed = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        for i in range(6):
            weights = layer.project.weight @ x[b, i] + layer.project.bias
            for j in range(i + 1):
                n = positions[i] - positions[j]
                for h in range(H):
                    of_head = weights[h * CURVES : (h + 1) * CURVES]
                    expected = of_head @ layer.bank[:, n] if n < length else 0 * of_head.sum()
                    torch.testing.assert_close(tile[b, h, i, j], expected)
                    weighed = weighed + receive[b, h, i, j] * expected
    leaves = [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((tile * receive).sum(), leaves), torch.autograd.grad(weighed, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_is_zero_beyond_the_bank() -> None:
    layer = RelativeProjection(LayerSpec(H, 3, DIM), length=10)
    row = layer.bias(torch.randn(1, 30, DIM)).added(slice(29, 30))[0, :, 0]
    assert (row[:, :20] == 0).all()
    assert (row[:, 20:] != 0).all()


def test_options_that_cannot_be() -> None:
    with pytest.raises(UserError, match="curves and length of at least 1, not 0 and 8"):
        RelativeProjection(LayerSpec(H, 3, DIM), curves=0, length=8)
