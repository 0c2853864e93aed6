"""What stands before a window: the text's own token, or the separator; the targets are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extrapo import GPT, GPTConfig
from extrapo.errors import UserError
from extrapo.evaluation import PROTOCOLS, Reading, extrapolation_curve

SEPARATOR = 30
TEXT = np.random.default_rng(7).integers(0, 30, 400).astype(np.uint16)
PLAIN, SEPARATED = Reading(SEPARATOR), Reading(SEPARATOR, start_token="separator")


@given(name=st.sampled_from(PROTOCOLS.names()), lengths=st.lists(st.integers(1, 64), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_the_model_sees_the_separator_first_and_is_asked_the_same(name: str, lengths: list[int]) -> None:
    asked: list[list[tuple[Tensor, Tensor]]] = []
    for reading in (PLAIN, SEPARATED):
        seen: list[tuple[Tensor, Tensor]] = []

        def score(inputs: Tensor, targets: Tensor, seen: Any = seen) -> Tensor:
            seen.append((inputs.clone(), targets))
            return torch.zeros(targets.shape)

        points = extrapolation_curve(score, TEXT, lengths, tokens_wanted=128, protocol_name=name, reading=reading)
        assert {point.start_token for point in points} == {reading.start_token}
        # The same targets at every length.
        assert len({(point.targets, point.tokens) for point in points}) == 1
        asked.append(seen)
    for (plain, targets), (separated, same) in zip(*asked, strict=True):
        assert torch.equal(targets, same)
        assert torch.equal(plain[:, 1:], separated[:, 1:])
        assert (separated[:, 0] == SEPARATOR).all()
        assert not (plain == SEPARATOR).any()


def test_the_loss_is_that_after_the_separator() -> None:
    """By hand: the first target of a window from the separator alone."""
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=31, layers=1, heads=2, dim=16, encoding="rope")).double().eval()

    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        return -gpt(inputs).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)

    (point,) = extrapolation_curve(score, TEXT, [8], tokens_wanted=64, reading=SEPARATED)
    tokens, total = TEXT.astype(np.int64), 0.0
    for first in range(1, 65, 8):
        seen = [SEPARATOR]
        for target in range(first, first + 8):
            total -= float(gpt(torch.tensor([seen]))[0, -1].log_softmax(-1)[tokens[target]].detach())
            seen.append(int(tokens[target]))
    assert point.nll == pytest.approx(total / 64, abs=1e-9)


def test_it_needs_a_separator() -> None:
    with pytest.raises(UserError, match="need to know the separator"):
        Reading(start_token="separator")


def test_the_precision_is_that_of_the_weights() -> None:
    assert PLAIN.by(nn.Linear(2, 2, dtype=torch.bfloat16)).dtype == "bfloat16"
    single = PLAIN.by(nn.Linear(2, 2))
    (point,) = extrapolation_curve(lambda _, targets: targets.float(), TEXT, [8], tokens_wanted=64, reading=single)
    assert point.row()["dtype"] == "float32"
