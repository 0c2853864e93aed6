"""ALiBi's slopes against the values of its paper and code, and its options."""

from __future__ import annotations

import pytest
import torch

from extrapo.encodings import LayerSpec
from extrapo.encodings.alibi import ALiBi

EIGHT = [2.0**-h for h in range(1, 9)]


def slopes(heads: int, **options: bool) -> torch.Tensor:
    """What a step of one token costs in every head."""
    bias = ALiBi(LayerSpec(heads, 4, 4 * heads), **options).bias(torch.zeros(1, 2, 4 * heads))
    return -bias.added(slice(1, 2))[0, :, 0, 0].detach()


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (1, [2.0**-8]),
        (2, [2.0**-4, 2.0**-8]),
        (8, EIGHT),
        (10, [*EIGHT, 0.70711, 0.35355]),
        (12, [*EIGHT, 0.70711, 0.35355, 0.17678, 0.08839]),
        (16, [2.0 ** (-h / 2) for h in range(1, 17)]),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_slopes(heads: int, expected: list[float], learned: bool) -> None:
    torch.testing.assert_close(slopes(heads, learned=learned), torch.tensor(expected), rtol=2e-5, atol=0)


def test_learned_slopes_are_one_parameter_per_head_and_stay_positive() -> None:
    assert not list(ALiBi(LayerSpec(4, 4, 16)).parameters())
    layer = ALiBi(LayerSpec(4, 4, 16), learned=True)
    (parameter,) = layer.parameters()
    assert parameter.numel() == 4
    with torch.no_grad():
        parameter.sub_(10.0)
    bias = layer.bias(torch.zeros(1, 2, 16)).added(slice(1, 2))[0, :, 0, 0]
    assert (bias < 0).all()


def test_another_kernel_counts_in_units_of_the_slopes() -> None:
    bias = ALiBi(LayerSpec(2, 4, 8), kernel="cauchy-log").bias(torch.zeros(1, 9, 8)).added(slice(8, 9))[0, :, 0, 0]
    expected = torch.tensor([-torch.log1p(torch.tensor((8 * slope) ** 2)) for slope in (2.0**-4, 2.0**-8)])
    torch.testing.assert_close(bias, expected)
