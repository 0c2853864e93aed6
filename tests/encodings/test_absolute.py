from __future__ import annotations

import math

import pytest
import torch

from extrapo import GPT, GPTConfig, encodings
from extrapo.encodings import Context
from extrapo.errors import NotApplicable, UserError

SHAPE = {"heads": 2, "head_dim": 3, "dim": 6}


def test_sinusoidal_formula() -> None:
    table, plain = (encodings.create("sinusoidal", **SHAPE, **o).embedding() for o in ({}, {"scale": 1.0}))
    assert table is not None
    assert plain is not None
    nothing = torch.zeros(1, 4, 6, dtype=torch.float64)
    context = Context.plain(nothing, start=5)
    added = plain(nothing, context)[0]
    torch.testing.assert_close(table(nothing, context)[0], 0.02 * added)
    for t in range(4):
        for c in range(3):
            angle = (5 + t) / 10_000 ** (2 * c / 6)
            assert added[t, 2 * c] == pytest.approx(math.sin(angle))
            assert added[t, 2 * c + 1] == pytest.approx(math.cos(angle))


def test_learned_is_not_applicable_past_its_table() -> None:
    model = GPT(GPTConfig(encoding="learned", layers=1, heads=2, dim=8, vocab_size=11, train_length=6))
    assert model(torch.zeros(1, 6, dtype=torch.int64)).shape == (1, 6, 11)
    with pytest.raises(NotApplicable, match=r"not applicable.*table of 6"):
        model(torch.zeros(1, 7, dtype=torch.int64))
    longer = GPTConfig(encoding="learned", encoding_options={"max_length": 9}, layers=1, heads=2, dim=8, vocab_size=11)
    assert GPT(longer)(torch.zeros(1, 9, dtype=torch.int64)).shape == (1, 9, 11)


def test_odd_width() -> None:
    with pytest.raises(UserError, match="even width"):
        encodings.create("sinusoidal", heads=1, head_dim=7, dim=7).embedding()
