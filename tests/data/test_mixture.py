"""Mixtures: exact shares, one tokenizer, and an order that resumes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extrapo.data import BatchLoader, prepare
from extrapo.data.mixture import MixedCorpus, take_turns, weighted
from extrapo.data.order import Mixed, shares
from extrapo.data.tokens import Mixture
from extrapo.errors import UserError


@pytest.mark.parametrize("spec", ["stdlib", "text:a,b.txt", "text:/a:0.5", "a:1,b", "text:a:b,c:d", "bin:x"])
def test_specs_of_one_corpus(spec: str) -> None:
    assert weighted(spec) is None


def test_weights_are_shares() -> None:
    assert weighted("stories:long,words=9,seed=1:1,b:1") == [("stories:long,words=9,seed=1", 0.5), ("b", 0.5)]
    assert weighted("stories:3, text:/a/b.txt:1") == [("stories", 0.75), ("text:/a/b.txt", 0.25)]


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=5), st.integers(0, 1000))
def test_shares_are_exact(values: list[float], total: int) -> None:
    weights = [value / sum(values) for value in values]
    found = shares(weights, total)
    assert sum(found) == total
    assert all(abs(share - weight * total) < 1 + 1e-6 for share, weight in zip(found, weights, strict=True))


@given(st.floats(0.1, 0.9), st.integers(40, 400), st.integers(40, 400), st.integers(0, 5))
def test_every_prefix_has_its_share_and_every_window_its_turn(weight: float, one: int, two: int, seed: int) -> None:
    streams = [np.arange(one), 10_000 + np.arange(two)]
    sizes = [(one - 1) // 8, (two - 1) // 8]
    order = Mixed(streams, [weight, 1 - weight], seq_len=8, total=sum(sizes), seed=seed)
    places = np.concatenate([order.epoch(number) for number in range(4)])
    for epoch in range(4):
        which = places[epoch * sum(sizes) : (epoch + 1) * sum(sizes), 0]
        ahead = np.cumsum(which == 0) - order.shares[0] / sum(sizes) * np.arange(1, len(which) + 1)
        assert np.abs(ahead).max() <= 1 + 1e-9
    for number, size in enumerate(sizes):
        starts = places[places[:, 0] == number, 1]
        for first in range(0, len(starts) - size + 1, size):
            # An epoch of one text: each of its windows once.
            assert len(set(starts[first : first + size] // 8)) == size
    rows = order.read(places)
    assert (np.diff(rows, axis=1) == 1).all()
    assert ((rows[:, 0] >= 10_000) == (places[:, 0] == 1)).all()


def loader(rank: int = 0, ranks: int = 1) -> BatchLoader:
    mixture = Mixture([np.arange(300, dtype=np.uint16), np.arange(1000, 1090, dtype=np.uint16)], [0.6, 0.4])
    return BatchLoader(mixture, seq_len=8, batch_size=4 // ranks, seed=5, rank=rank, world_size=ranks)


def batches(of: BatchLoader, epochs: int) -> list[torch.Tensor]:
    found = [batch for _ in range(epochs) for batch in of]
    assert all(isinstance(batch, torch.Tensor) for batch in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_the_same_global_batches(ranks: int) -> None:
    parts = [batches(loader(rank, ranks), 2) for rank in range(ranks)]
    together = [torch.cat(rows) for rows in zip(*parts, strict=True)]
    assert torch.equal(torch.stack(together), torch.stack(batches(loader(), 2)))


@pytest.mark.parametrize("stop", range(0, 30, 3))
def test_a_mixture_resumes_anywhere(stop: int) -> None:
    whole, walker = batches(loader(), 5), loader()
    for _ in range(stop // len(walker)):
        list(walker)
    list(islice(walker, stop % len(walker)))
    resumed = loader()
    resumed.load_state_dict(walker.state_dict())
    rest = batches(resumed, 4)
    assert torch.equal(torch.stack(rest[:10]), torch.stack(whole[stop : stop + 10]))
    other = BatchLoader(np.arange(390), seq_len=8, batch_size=4, seed=5)
    with pytest.raises(UserError, match="resume with the settings"):
        other.load_state_dict(walker.state_dict())


def test_turns_hold_the_shares() -> None:
    borders = [np.arange(0, 1001, 10), np.arange(0, 5001, 50)]
    turns = take_turns(borders, [0.75, 0.25])
    tokens = [10 * int((turns[:, 0] == 0).sum()), 50 * int((turns[:, 0] == 1).sum())]
    assert tokens[0] == 1000
    assert abs(tokens[1] - 1000 / 3) <= 50


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    specs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(40):
            (tmp_path / name / f"{number}.txt").write_text(f"{name} {number} says {name} " * (3 + number % 5))
        specs.append(f"text:{tmp_path / name}")
    return specs


def test_a_mixture_has_one_tokenizer_and_documents_in_turn(folders: list[str], tmp_path: Path) -> None:
    mixed = prepare(f"{folders[0]}:0.5,{folders[1]}:0.5", vocab_size=300, cache=tmp_path / "cache")
    assert isinstance(mixed, MixedCorpus)
    first, second = mixed.parts
    assert first.tokenizer.sha256 == second.tokenizer.sha256 == mixed.tokenizer.sha256
    assert len(mixed.train) == len(first.train) + len(second.train)
    borders = mixed.validation_documents
    assert borders[-1] == len(mixed.validation)
    seen = [
        mixed.tokenizer.decode(mixed.validation[start:stop].tolist()).split()[0]
        for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
    ]
    assert abs(seen.count("one") - seen.count("two")) <= 1
    again = prepare(f"{folders[0]}:0.5,{folders[1]}:0.5", vocab_size=300, cache=tmp_path / "cache")
    assert again.sha256 == mixed.sha256


def test_a_prepared_corpus_decides_the_tokenizer(folders: list[str], tmp_path: Path) -> None:
    named = prepare(folders[0], vocab_size=280, cache=tmp_path / "cache", output="mine")
    mixed = prepare(f"mine:1,{folders[1]}:3", cache=tmp_path / "cache")
    assert mixed.tokenizer.sha256 == named.tokenizer.sha256
    prepare(folders[1], tokenizer="byte", cache=tmp_path / "cache", output="yours")
    with pytest.raises(UserError, match="was prepared by the tokenizer"):
        prepare("mine:1,yours:1", cache=tmp_path / "cache")
