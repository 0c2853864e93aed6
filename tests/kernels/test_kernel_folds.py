"""A kernel that folds: its columns give phi up to a term of the row, exactly, on any clock."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import kernels

#: name -> (columns, options); the cosines have none under a gate.
FOLDS = {
    "linear": (1, {"r": [0.5, 1.0, 2.0]}),
    "retention": (1, {"gamma": [0.6, 0.9, 0.99]}),
    "gauss-bias": (2, {"w": [0.7, 3.0, 20.0]}),
    "cos-sum": (128, {}),
}


@pytest.mark.parametrize("name", kernels.names())
def test_says_whether_it_folds(name: str) -> None:
    kernel = kernels.create(name, heads=2)
    position = torch.arange(4, dtype=torch.float64).view(1, 1, 4)
    columns = kernel.low_rank(position, position, None, *kernel.values())
    assert (columns is not None) == (name in FOLDS)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("contextual", [False, True])
@pytest.mark.parametrize("name", FOLDS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_columns_are_phi_up_to_a_term_of_the_row(name: str, contextual: bool, gated: bool, seed: int) -> None:
    torch.manual_seed(seed)
    rank, options = FOLDS[name]
    kernel = kernels.create(name, heads=3, **options).double()
    keys = torch.rand(2, 3, 9, dtype=torch.float64) * 4 * (torch.rand(2, 3, 9) > 0.2) if contextual else None
    keys = torch.arange(9, dtype=torch.float64).view(1, 1, 9) - 4 if keys is None else keys.cumsum(-1)
    # The last 6 of 9 tokens, as while decoding.
    queries = keys[..., 3:]
    gate = 3 * torch.rand(2, 3, 6, dtype=torch.float64) if gated else None
    columns = kernel.low_rank(queries, keys, gate, *kernel.values())
    if name == "cos-sum" and gated:
        assert columns is None
        return
    assert columns is not None
    assert columns.u.size(-1) == columns.w.size(-1) == rank
    distance = queries.unsqueeze(-1) - keys.unsqueeze(-2)
    phi = kernel(distance if gate is None else gate.unsqueeze(-1) * distance)
    apart = columns.u @ columns.w.transpose(-1, -2) - phi
    assert (apart - apart[..., :1]).abs().max() < 1e-10


def test_a_kernel_without_heads_folds_too() -> None:
    position = torch.rand(1, 1, 5, dtype=torch.float64).cumsum(-1)
    for name in FOLDS:
        kernel = kernels.create(name).double()
        columns = kernel.low_rank(position, position, None, *kernel.values())
        phi = kernel(position.unsqueeze(-1) - position.unsqueeze(-2))
        apart = columns.u @ columns.w.transpose(-1, -2) - phi
        assert (apart - apart[..., :1]).abs().max() < 1e-12


def test_squares_of_positions_are_not_folded_in_float32() -> None:
    kernel = kernels.create("gauss-bias", heads=2)
    position = torch.arange(4.0).view(1, 1, 4)
    assert kernel.low_rank(position, position, None, *kernel.values()) is None
