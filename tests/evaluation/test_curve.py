"""The curve against losses that are known by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig
from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation import Point, Protocol, batches, extrapolation_curve, protocol
from extrapo.evaluation.batches import BATCH_TOKENS
from extrapo.training import LanguageModel

TEXT = np.random.default_rng(0).integers(0, 31, 1025).astype(np.uint16)


def curve(score: Any, lengths: list[int], **changes: Any) -> list[Point]:
    return extrapolation_curve(score, TEXT, lengths, **{"tokens_wanted": 1024, **changes})


def by_position(inputs: Tensor, targets: Tensor) -> Tensor:
    """A model that loses 1 / (1 + tokens of past) nats."""
    return (1 / torch.arange(1, inputs.size(1) + 1)).expand(targets.shape)


def test_a_uniform_model_loses_ln_v() -> None:
    # A network whose output layer is zero, through the same path as a trained one.
    module = LanguageModel({"vocab_size": 31, "layers": 1, "heads": 1, "dim": 8, "tied": False}).eval()
    torch.nn.init.zeros_(module.gpt.unembedding.weight)
    for point in curve(module.token_nll, [1, 8, 64, 512]):
        assert point.nll == pytest.approx(math.log(31), abs=1e-6)
        assert point.ppl == pytest.approx(31, abs=1e-4)
        assert point.tokens == 1024


def test_a_loss_by_position_within_the_window() -> None:
    for point in curve(by_position, [1, 2, 16, 256]):
        harmonic = sum(1 / n for n in range(1, point.length + 1))
        assert point.nll == pytest.approx(harmonic / point.length, rel=1e-6)
        assert point.windows == 1024 // point.length


@pytest.mark.parametrize("length", [1, 3, 32, 1024])
def test_the_model_sees_each_token_with_its_successor(length: int) -> None:
    seen: list[Tensor] = []

    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        assert inputs.shape == targets.shape
        assert inputs.size(1) == length
        assert inputs.numel() <= max(BATCH_TOKENS, length)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        seen.extend(targets)
        return torch.zeros(targets.shape)

    (point,) = curve(score, [length])
    assert torch.cat(seen).tolist() == TEXT[1 : point.tokens + 1].tolist()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@given(ranks=st.integers(1, 6), length=st.sampled_from([4, 64, 512, 1024]))
@settings(max_examples=20, deadline=None)
def test_ranks_share_the_windows_out(ranks: int, length: int) -> None:
    parts = [curve(by_position, [length], rank=rank, ranks=ranks)[0] for rank in range(ranks)]
    assert sum(part.tokens for part in parts) == 1024


@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_every_rank_makes_as_many_passes(ranks: int) -> None:
    def passes(rank: int) -> int:
        seen: list[int] = []

        def score(inputs: Tensor, targets: Tensor) -> Tensor:
            seen.append(1)
            return torch.ones(targets.shape)

        text = np.zeros(7 * BATCH_TOKENS + 1, dtype=np.uint16)
        (point,) = extrapolation_curve(
            score, text, [BATCH_TOKENS], tokens_wanted=7 * BATCH_TOKENS, rank=rank, ranks=ranks
        )
        assert point.tokens == len(range(7)[rank::ranks]) * BATCH_TOKENS
        return len(seen)

    assert [passes(rank) for rank in range(ranks)] == [-(-7 // ranks)] * ranks


def test_progress_counts_to_the_end() -> None:
    for rank, ranks in ((0, 1), (0, 2), (1, 2)):
        calls: list[tuple[int, int, int]] = []
        extrapolation_curve(
            by_position,
            np.zeros(4 * BATCH_TOKENS + 1, dtype=np.uint16),
            [BATCH_TOKENS],
            tokens_wanted=4 * BATCH_TOKENS,
            rank=rank,
            ranks=ranks,
            progress=lambda *call, calls=calls: calls.append(call),
        )
        assert calls[-1] == (BATCH_TOKENS, 4 // ranks, 4 // ranks)


def test_a_length_past_a_learned_table_is_a_row_with_a_note() -> None:
    torch.manual_seed(0)
    model = {"vocab_size": 31, "layers": 1, "heads": 1, "dim": 8, "encoding": "learned", "train_length": 16}
    points = curve(LanguageModel(model).eval().token_nll, [32, 16, 8])
    past, *within = points
    assert (past.nll, past.ppl, past.tokens) == (None, None, 0)
    assert past.note is not None
    assert "table of 16" in past.note
    assert past.row()["note"] == past.note
    for point in within:
        assert point.tokens == 1024
        assert "note" not in point.row()
        assert point.row()["protocol"] == "disjoint"


def test_another_failure_is_not_a_row() -> None:
    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        raise UserError("something else") if inputs.size(1) == 8 else NotApplicable("too long")

    with pytest.raises(UserError, match="something else"):
        curve(score, [16, 8])


def test_a_longer_context_is_really_used() -> None:
    # The same targets, more past: with a model that attends, the losses must differ.
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=31, layers=1, heads=2, dim=16, encoding="cable")).eval()
    for parameter in gpt.parameters():
        parameter.data.mul_(10)

    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = -gpt(inputs).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return losses

    short, long = curve(score, [4, 64])
    assert short.tokens == long.tokens
    assert short.nll != long.nll


@pytest.mark.parametrize(
    ("lengths", "changes", "message"),
    [
        ([1025], {}, "has 1025 tokens, shorter than one window of 1025"),
        ([0, 4], {}, "at least 1, not 0"),
        ([4], {"protocol_name": "slding"}, "unknown protocol 'slding'"),
    ],
)
def test_mistakes(lengths: list[int], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        curve(by_position, lengths, **changes)


def model_and_losses() -> tuple[GPT, Any]:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=31, layers=2, heads=2, dim=16, encoding="cable")).eval().double()
    for parameter in gpt.parameters():
        parameter.data.mul_(4)

    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = -gpt(inputs).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return losses

    return gpt, score


@pytest.mark.parametrize(
    ("chosen", "past"),
    [
        (protocol("disjoint"), lambda length, target: (target - 1) % length + 1),
        (
            protocol("sliding", step=4),
            lambda length, target: target if target <= length else length - 3 + (target - length - 1) % 4,
        ),
        (protocol("last-k", last=4), lambda length, target: length - 3 + (target - 61) % 64),
        (protocol("fixed-target", last=4), lambda length, target: length - 3 + (target - 61) % 4),
    ],
    ids=["disjoint", "sliding", "last-k", "fixed-target"],
)
def test_each_target_is_scored_after_the_past_that_the_protocol_says(chosen: Protocol, past: Any) -> None:
    """Beside the loss of one target at a time, after so many tokens and no others."""
    gpt, score = model_and_losses()
    text = TEXT[:257]
    points = extrapolation_curve(score, text, [8, 16, 64], tokens_wanted=64, protocol_name=chosen)
    covered = chosen.cover([8, 16, 64], len(text), 64)
    targets = sorted(target for window in covered[8] for target in window.targets)
    with torch.no_grad():
        for point in points:
            assert point.tokens == len(targets)
            losses = []
            for target in targets:
                seen = past(point.length, target)
                inputs = torch.from_numpy(text[target - seen : target].astype(np.int64)).unsqueeze(0)
                losses.append(-float(gpt(inputs)[0, -1].log_softmax(-1)[int(text[target])]))
            assert point.nll == pytest.approx(float(np.mean(losses)), abs=1e-6)
            assert point.blocks is not None
            assert point.blocks.mean == pytest.approx(point.nll, abs=1e-9)
            assert point.low is not None
            assert point.high is not None
            assert point.low < point.nll < point.high


@pytest.mark.parametrize("name", ["disjoint", "sliding", "last-k", "fixed-target", "position"])
def test_the_size_of_a_batch_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network in float32, by whatever back end serves."""
    torch.manual_seed(0)
    module = LanguageModel({"vocab_size": 31, "layers": 2, "heads": 2, "dim": 16, "encoding": "k-cable"}).eval()
    found = []
    for size in (1, 700, 10**6):
        monkeypatch.setattr(batches, "BATCH_TOKENS", size)
        passes: list[int] = []
        settings = {"protocol_name": name, "tokens_wanted": 128}
        found.append(curve(module.token_nll, [8, 64], **settings, progress=lambda *done, to=passes: to.append(done[2])))
        assert size > 1 or max(passes) > 1, "a window at a time"
    for points in zip(*found, strict=True):
        nll, low = ([getattr(point, which) for point in points] for which in ("nll", "low"))
        assert nll == pytest.approx([nll[0]] * 3, abs=1e-5)
        assert low == pytest.approx([low[0]] * 3, abs=1e-5)


def test_bits_per_byte_are_those_of_the_targets_alone() -> None:
    sizes = np.arange(31) % 5
    points = curve(by_position, [16, 64], token_bytes=sizes)
    for point in points:
        expected = point.nll * 1024 / math.log(2) / sizes[TEXT[1:1025]].sum()
        assert point.bits_per_byte == pytest.approx(expected, rel=1e-12)
        assert {"bits_per_byte", "low", "high", "start_token"} <= set(point.row())
        assert "blocks" not in point.row()
    assert all(point.bits_per_byte is None for point in curve(by_position, [16]))
