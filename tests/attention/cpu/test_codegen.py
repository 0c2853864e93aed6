"""What a compiled tile reads: factors by where they vary, and those of the query's own key."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.attention.cpu.codegen import kinds_of, on_diagonal
from extrapo.encodings.core.distance import DistanceLogit


def test_factors_are_known_by_where_they_vary() -> None:
    small = [torch.zeros(2, 3, 1), torch.zeros(2, 1, 5, dtype=torch.float64)]
    assert kinds_of(small) == ((torch.float32, True, False), (torch.float64, False, True))


def test_equal_formulas_are_one() -> None:
    def phi(z: Tensor) -> Tensor:
        return -z

    assert DistanceLogit(phi) == DistanceLogit(phi)
    assert hash(DistanceLogit(phi)) == hash(DistanceLogit(phi))
    assert DistanceLogit(phi) != DistanceLogit(phi, gated=True)


def test_a_factor_on_the_diagonal() -> None:
    """The last keys are the queries' own, one after the other."""
    column, row, one = torch.arange(5.0).view(1, 1, 5), torch.arange(3.0).view(1, 3, 1), torch.ones(2, 1, 1)
    by_key, by_row, by_none, along = (
        (torch.float32, r, s) for r, s in ((False, True), (True, False), (False, False), (True, True))
    )
    assert on_diagonal(column, by_key, 3).flatten().tolist() == [2, 3, 4]
    assert on_diagonal(column, by_key, 3).shape == row.shape
    assert on_diagonal(row, by_row, 3) is row
    assert on_diagonal(one, by_none, 3) is one
    # Distances 4, 3 ... 0 of the last query: its view's first row; the own key is at distance 0 for all.
    line = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -1.0]])
    assert on_diagonal(line.unfold(-1, 5, 1), along, 3).tolist() == [[[0.0]]]
