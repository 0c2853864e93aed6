"""Documents in one row: out into rows of their own and back, whatever their lengths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.packing import Packing


@given(st.lists(st.lists(st.integers(0, 2), min_size=12, max_size=12), min_size=1, max_size=3))
def test_there_and_back(documents: list[list[int]]) -> None:
    """Every run of equal ids becomes a row, in order, zeros after it; packing again gives what was there."""
    ids = torch.tensor(documents)
    x = 1 + torch.arange(ids.numel() * 2.0).view(*ids.shape, 2)
    packing = Packing(ids)
    expected = []
    for row, one in zip(ids.tolist(), x, strict=True):
        begin = 0
        for t in range(1, 13):
            if t == 12 or row[t] != row[t - 1]:
                expected.append(one[begin:t])
                begin = t
    unpacked = packing.unpack(x)
    assert unpacked.shape == (len(expected), max(map(len, expected)), 2)
    for got, document in zip(unpacked, expected, strict=True):
        assert torch.equal(got[: len(document)], document)
        assert not got[len(document) :].any()
    assert torch.equal(packing.pack(unpacked), x)


def test_gradients_pass() -> None:
    packing = Packing(torch.tensor([[0, 0, 1], [3, 4, 4]]))
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: packing.pack(packing.unpack(x) ** 2), x)


def test_shape() -> None:
    with pytest.raises(UserError, match="documents must be"):
        Packing(torch.zeros(3))
