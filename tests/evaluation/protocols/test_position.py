"""The loss by position against an independent sum of the losses of single tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extrapo import GPT, GPTConfig
from extrapo.errors import UserError
from extrapo.evaluation import extrapolation_curve, protocol
from extrapo.evaluation.protocols import Position

TEXT = np.random.default_rng(3).integers(0, 31, 700).astype(np.uint16)


def model() -> GPT:
    torch.manual_seed(1)
    return GPT(GPTConfig(vocab_size=31, layers=2, heads=2, dim=16, encoding="alibi")).eval()


def score(gpt: GPT) -> Any:
    return lambda inputs, targets: -gpt(inputs).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


@given(length=st.integers(1, 5000))
def test_the_bins_double_and_leave_nothing_out(length: int) -> None:
    bins = protocol("position").bins(length)
    assert [position for one in bins for position in one] == list(range(1, length + 1))
    assert [one.start for one in bins] == [1, *(2**n + 1 for n in range(len(bins) - 1))]
    numbers = protocol("position").bin_of(length)
    assert [int(number) for number in numbers] == [math.ceil(math.log2(n)) for n in range(1, length + 1)]


@pytest.mark.parametrize("lengths", [[16, 64], [24, 100, 333]])
def test_each_bin_is_the_mean_of_its_tokens(lengths: list[int]) -> None:
    """In float64, window by window from the logits; also where the last window begins earlier."""
    gpt = model()
    points = extrapolation_curve(score(gpt), TEXT, lengths, tokens_wanted=640, protocol_name="position")
    plain = extrapolation_curve(score(gpt), TEXT, lengths, tokens_wanted=640, protocol_name="disjoint")
    tokens, exact = torch.from_numpy(TEXT.astype(np.int64)), model().double()
    for point, other in zip(points, plain, strict=True):
        length, losses = point.length, dict[int, list[float]]()
        for first in range(1, point.tokens + 1, length):
            start = min(first - 1, point.tokens - length)
            window = tokens[start : start + length + 1]
            logits = exact(window[None, :-1])[0].log_softmax(-1)
            for seen in range(1, length + 1):
                if start + seen >= first:
                    losses.setdefault(seen, []).append(-float(logits[seen - 1, window[seen]]))
        assert sum(map(len, losses.values())) == point.tokens
        for one in point.positions:
            expected = [loss for n in range(one.first, one.last + 1) for loss in losses.get(n, [])]
            assert one.tokens == len(expected)
            assert one.nll == pytest.approx(np.mean(expected), abs=1e-6)
            assert one.low is None or one.low < one.nll < one.high  # type: ignore[operator]
        assert point.nll == pytest.approx(other.nll, abs=1e-12), "the same pass, and the same mean"
        assert point.low == pytest.approx(other.low, abs=1e-12)
        assert other.positions == ()
        assert "positions" not in other.row()
        assert point.row()["positions"][0]["first"] == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_ranks_have_a_share_of_every_bin() -> None:
    whole, *shares = (
        extrapolation_curve(
            score(model()), TEXT, [64], tokens_wanted=640, protocol_name="position", rank=rank, ranks=ranks
        )[0]
        for rank, ranks in ((0, 1), (0, 2), (1, 2))
    )
    for number, one in enumerate(whole.positions):
        assert one.tokens == sum(share.positions[number].tokens for share in shares)


def test_bins_that_are_not_the_positions_are_refused() -> None:
    class Gap(Position):
        def bins(self, length: int) -> list[range]:
            return [range(1, 2), range(3, length + 1)]

    with pytest.raises(UserError, match="its bins are not the positions 1 to 16"):
        extrapolation_curve(score(model()), TEXT, [16], tokens_wanted=64, protocol_name=Gap("gap"))
