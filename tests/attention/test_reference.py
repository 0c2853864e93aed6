"""The specification against PyTorch's own attention, given the whole matrix."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from extrapo import encodings
from extrapo.attention.reference import Reference
from extrapo.encodings.core.encoding import Encoded


def encoded(name: str) -> Encoded:
    torch.manual_seed(0)
    layer = encodings.create(name, heads=2, head_dim=4, dim=8, train_length=6).double().eval()
    q, k, v = torch.randn(3, 2, 2, 11, 4, dtype=torch.float64)
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    before = layer.encode(q[:, :, :4], k[:, :, :4], v[:, :, :4], x=x[:, :4]).state
    return layer.encode(q[:, :, 4:], k[:, :, 4:], v[:, :, 4:], x=x[:, 4:], state=before)


ADDITIVE = [name for name in encodings.names() if encoded(name).bias.additive]


@pytest.mark.parametrize("name", ADDITIVE)
def test_what_is_added_is_the_dense_bias(name: str) -> None:
    """`dense` is in float32, and so is the agreement."""
    q, k, v, bias, *_ = encoded(name)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.dense().double(), scale=0.4)
    torch.testing.assert_close(Reference()(q, k, v, bias, scale=0.4), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", encodings.names())
def test_a_bias_is_read_and_not_written(name: str) -> None:
    """The mask must not reach what a bias keeps: a second call gives the same."""
    q, k, v, bias, *_ = encoded(name)
    before = [tensor.clone() for tensor in bias.tensors()]
    first = Reference()(q, k, v, bias, scale=0.4)
    assert torch.equal(Reference()(q, k, v, bias, scale=0.4), first)
    assert all(torch.equal(a, b) for a, b in zip(before, bias.tensors(), strict=True))
