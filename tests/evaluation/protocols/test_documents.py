"""Windows within documents, under every protocol: none crosses a border, and each document is as if it stood alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import GPT, GPTConfig
from extrapo.errors import UserError
from extrapo.evaluation import PROTOCOLS, BlockLosses, Reading, difference, extrapolation_curve, interval, protocol
from extrapo.evaluation.protocols.documents import MOST_BLOCKS

SEPARATOR = 30
READING = Reading(SEPARATOR, by_document=True)


def text(sizes: list[int]) -> np.ndarray[Any, Any]:
    """Documents of so many tokens, the separator of each included."""
    generator = np.random.default_rng(5)
    parts = [np.array([SEPARATOR, *generator.integers(0, 30, size - 1)]) for size in sizes]
    return np.concatenate(parts).astype(np.uint16)


def scorer() -> Any:
    torch.manual_seed(2)
    gpt = GPT(GPTConfig(vocab_size=31, layers=2, heads=2, dim=16, encoding="cable")).double().eval()
    return lambda inputs, targets: -gpt(inputs).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def test_a_text_is_cut_at_its_separators() -> None:
    tokens = text([5, 1, 9])
    assert list(READING.documents(tokens)) == [range(5), range(5, 6), range(6, 15)]
    assert list(READING.documents(tokens[2:])) == [range(3), range(3, 4), range(4, 13)]
    assert (READING.reach(tokens), Reading(SEPARATOR).reach(tokens)) == (9, 15)
    assert list(Reading().documents(tokens)) == [range(15)]


@given(
    name=st.sampled_from(PROTOCOLS.names()),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=9),
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True),
    wanted=st.integers(1, 300),
)
@settings(max_examples=150, deadline=None)
def test_no_window_crosses_a_border(name: str, sizes: list[int], lengths: list[int], wanted: int) -> None:
    tokens = text(sizes)
    documents = READING.documents(tokens)
    within = READING.protocol(protocol(name), tokens)
    if max(sizes) < 2:
        with pytest.raises(UserError, match="no document can be scored"):
            within.cover(lengths, len(tokens), wanted)
        return
    # Held there: every length scores the same targets, each once.
    for length, windows in within.cover(lengths, len(tokens), wanted).items():
        for window in windows:
            (own,) = [document for document in documents if window.start in document]
            assert window.stop in own
            assert window.size <= length
            assert window.first_target > own.start


@pytest.mark.parametrize("name", ["disjoint", "position", "sliding", "last-k", "fixed-target"])
def test_each_document_is_scored_as_if_it_stood_alone(name: str) -> None:
    sizes, lengths = [40, 7, 100, 2, 1, 64], [8, 32]
    tokens, score = text(sizes), scorer()
    points = extrapolation_curve(score, tokens, lengths, tokens_wanted=1000, protocol_name=name, reading=READING)
    alone: dict[int, list[Any]] = {length: [] for length in lengths}
    for document in READING.documents(tokens):
        longest = min(32, len(document) - 1)
        if longest:
            its = [min(length, longest) for length in lengths]
            found = extrapolation_curve(
                score, tokens[document.start : document.stop], its, tokens_wanted=1000, protocol_name=name
            )
            for length, point in zip(lengths, found, strict=True):
                alone[length].append(point)
    for point in points:
        parts = alone[point.length]
        assert point.tokens == sum(part.tokens for part in parts)
        assert point.nll == pytest.approx(sum(part.nll * part.tokens for part in parts) / point.tokens, abs=1e-9)
        assert (point.documents, point.scope) == (5, "document")
        assert point.protocol == name
        assert point.description.endswith(", within documents")
        # The bootstrap's blocks are the documents.
        assert point.blocks is not None
        blocks = [(nll, count) for nll, count in zip(*point.blocks, strict=True) if count]
        assert [count for _, count in blocks] == [part.tokens for part in parts]
        assert [nll for nll, _ in blocks] == pytest.approx([part.nll * part.tokens for part in parts])
        assert (point.low, point.high) == interval(BlockLosses(*map(tuple, zip(*blocks, strict=True))))
    assert points[0].targets == points[1].targets


def test_over_the_borders_the_documents_are_counted_too() -> None:
    tokens = text([40, 7, 100])
    for wanted, documents in ((32, 1), (40, 2), (46, 2), (48, 3), (140, 3)):
        (point,) = extrapolation_curve(
            scorer(), tokens, [4], tokens_wanted=wanted, protocol_name="sliding", reading=Reading(SEPARATOR)
        )
        assert (point.tokens, point.documents, point.scope) == (wanted, documents, "text")
    (point,) = extrapolation_curve(scorer(), tokens, [4], tokens_wanted=40)
    assert point.documents is None


def test_two_models_are_compared_document_by_document() -> None:
    tokens = text([30 + 7 * n for n in range(12)])
    hard = torch.linspace(1, 9, 31, dtype=torch.float64)
    models = [lambda inputs, targets, more=more: hard[targets] + more for more in (0.0, 0.01)]
    one, other = (
        extrapolation_curve(model, tokens, [16], tokens_wanted=10_000, reading=READING)[0].blocks for model in models
    )
    found = difference([one], [other])
    assert found.verdict == "lower"
    assert found.mean == pytest.approx(-0.01)
    assert found.high - found.low < 1e-9


def test_very_many_documents_share_blocks_and_none_is_cut() -> None:
    tokens = text([3] * 2500)
    within = READING.protocol(protocol("disjoint"), tokens)
    stretches = [window.targets for window in within.cover([2], len(tokens), 10_000)[2]]
    block = within.block_of(stretches)
    blocks = [set(block[list(one)].tolist()) for one in stretches]
    assert all(len(one) == 1 for one in blocks)
    assert len(set.union(*blocks)) == MOST_BLOCKS


def test_a_document_too_short_for_what_is_asked_is_left_out() -> None:
    tokens = text([10, 40, 12])
    within = READING.protocol(protocol("last-k", last=20), tokens)
    (window,) = within.cover([24], len(tokens), 1000)[24]
    assert window.start >= 10
    assert window.stop < 50
    with pytest.raises(UserError, match=r"no document can be scored: protocol 'last-k': a window of .* has no 90"):
        READING.protocol(protocol("last-k", last=90), tokens).cover([95], len(tokens), 1000)


def test_without_a_separator_there_are_no_documents() -> None:
    with pytest.raises(UserError, match="need to know the separator"):
        Reading(by_document=True)
