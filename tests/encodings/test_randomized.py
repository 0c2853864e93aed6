"""Randomized positions: what is drawn in training and at evaluation, and that the host encoding stands there."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig, encodings
from extrapo.encodings import Context, Encoding
from extrapo.encodings.randomized import Randomized, RandomPositions
from extrapo.errors import NotApplicable, UserError


def positions(source: RandomPositions, length: int, start: int = 0, batch: int = 1) -> Tensor:
    index = source(torch.zeros(batch, length, dtype=torch.int64), start, None).index
    assert index.shape == (1, 1, length), "the same for all of the batch"
    assert index.dtype == torch.float64
    return index.flatten().long()


def make(train_length: int = 8, **options: Any) -> RandomPositions:
    source = encodings.create("randomized", heads=2, head_dim=4, dim=8, train_length=train_length, **options).source()
    assert isinstance(source, RandomPositions)
    return source


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, 40), extra=st.integers(0, 100), seed=st.integers(0, 9), training=st.booleans())
def test_samples_are_distinct_sorted_and_in_the_range(length: int, extra: int, seed: int, training: bool) -> None:
    options = {"max_length": length + extra, "capacity": length, "seed": seed, "evaluation": "sampled"}
    got = positions(make(length, **options).train(training), length, batch=3)
    assert (got.diff() > 0).all()
    assert got[0] >= 0
    assert got[-1] < length + extra


def test_training_draws_each_set_alike() -> None:
    """All 20 sets of 3 of 6 positions come equally often, a new one at every pass."""
    source, counts = make(3, max_length=6).train(), {}
    for _ in range(2000):
        drawn = tuple(positions(source, 3).tolist())
        counts[drawn] = counts.get(drawn, 0) + 1
    assert len(counts) == math.comb(6, 3)
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 50  # 19 degrees of freedom: above that once in seven thousand


@settings(max_examples=50, deadline=None)
@given(capacity=st.integers(1, 60), factor=st.floats(1, 9), seed=st.integers(0, 9), data=st.data())
def test_strata(capacity: int, factor: float, seed: int, data: st.DataObject) -> None:
    """Token t stands in the t-th of `capacity` equal parts, in a pass of its own as in that of the whole text."""
    max_length = int(capacity * factor)
    source = make(1, max_length=max_length, capacity=capacity, seed=seed).eval()
    whole = positions(source, capacity).tolist()
    for t, position in enumerate(whole):
        assert math.floor(t * max_length / capacity) <= position < math.floor((t + 1) * max_length / capacity)
    t = data.draw(st.integers(0, capacity - 1))
    assert positions(source, 1, start=t).tolist() == whole[t : t + 1]
    assert positions(source, capacity).tolist() == whole


def test_strata_use_their_whole_width_and_the_seed() -> None:
    sources = [make(1, max_length=8000, capacity=2000, seed=seed).eval() for seed in (0, 1)]
    first, second = (positions(source, 2000) - 4 * torch.arange(2000) for source in sources)
    assert (torch.bincount(first) - 500).abs().max() < 100
    assert 0.6 < (first != second).float().mean() < 0.9


def test_default_range() -> None:
    """Evaluation reaches 16 times the training length; the range is 4 times as long, as in the paper."""
    source = make(32).eval()
    assert (source.capacity, source.max_length) == (512, 2048)
    assert positions(source, 512)[-1] < 2048
    with pytest.raises(NotApplicable, match=r"not applicable.*positions for 512 tokens \(capacity\).*text has 513"):
        positions(source, 513)
    with pytest.raises(NotApplicable, match="text has 513"):
        positions(source, 1, start=512)
    assert make(40, max_length=2048).capacity == 640
    assert make(40, max_length=500).capacity == 500


def test_sampled_evaluation_repeats_itself_and_reads_whole_texts() -> None:
    source = make(8, evaluation="sampled").eval()
    assert torch.equal(positions(source, 20), positions(source, 20))
    assert positions(source, 20)[-1] > 100, "spread over the whole range"
    with pytest.raises(UserError, match="a whole text at once"):
        positions(source, 1, start=4)
    with pytest.raises(NotApplicable, match="max_length"):
        positions(source, source.max_length + 1)


def test_offsets() -> None:
    source = make(4, mode="offset", max_length=10).train()
    firsts = []
    for _ in range(700):
        got = positions(source, 4)
        assert (got.diff() == 1).all()
        firsts.append(int(got[0]))
    counts = torch.bincount(torch.tensor(firsts))
    assert len(counts) == 7
    assert (counts - 100).abs().max() < 45
    source.eval()
    assert positions(source, 25).tolist() == list(range(25))
    assert positions(source, 2, start=7).tolist() == [7, 8]


@pytest.mark.parametrize("host", ["rope", "alibi", "sinusoidal"])
def test_the_host_stands_where_it_is_told(host: str) -> None:
    tokens = torch.randint(0, 11, (2, 9), generator=torch.Generator().manual_seed(0))
    shape = {"layers": 2, "heads": 2, "dim": 8, "vocab_size": 11, "train_length": 9}
    torch.manual_seed(0)
    model = GPT(GPTConfig(encoding=f"randomized+{host}", **shape)).eval()
    plain = GPT(GPTConfig(encoding=host, **shape)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    context, _ = model.context(tokens)
    assert context.index.flatten().tolist() != list(range(9))
    there = Context(context.index, 0, tokens)
    assert torch.equal(model.hidden(tokens), plain.hidden(tokens, context=there))
    assert not torch.allclose(model.hidden(tokens), plain.hidden(tokens))


def test_the_prefix_is_a_composition() -> None:
    assert encodings.split("randomized-rope+cable") == ["randomized", "rope", "cable"]
    options = {"randomized": {"max_length": 64}, "learned": {"max_length": 64}}
    config = GPTConfig(encoding="randomized-learned", encoding_options=options, layers=1, heads=2, dim=8, vocab_size=11)
    with pytest.raises(UserError, match="max_length must be at least the training length 1024, not 64"):
        GPT(config)
    model = GPT(config.model_copy(update={"train_length": 16})).train()
    assert model(torch.zeros(1, 16, dtype=torch.int64)).shape == (1, 16, 11)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="max_length must be at least capacity 30, not 20"):
        make(8, max_length=20, capacity=30)
    with pytest.raises(UserError, match="mode must be 'sample' or 'offset'"):
        make(8, mode="shift")


def test_defaults_are_stated_once() -> None:
    """The encoding's options, which the catalogue shows, are those that the source of positions takes."""
    shown, taken = (
        {name: p.default for name, p in inspect.signature(cls).parameters.items() if p.kind is p.KEYWORD_ONLY}
        for cls in (Randomized, RandomPositions)
    )
    del taken["layer"], shown["sampling"], shown["draw"]
    assert shown == taken


# -- distances, and draws of each layer ------------------------------------------------------------------------------


def layer_of(name: str, layer: int = 0, **options: Any) -> Encoding:
    torch.manual_seed(0)
    return encodings.create(name, heads=2, head_dim=4, dim=8, layer=layer, layers=2, train_length=8, **options).eval()


@pytest.mark.parametrize("training", [True, False])
def test_sampled_distances_are_sorted_in_the_range_and_the_same_along_diagonals(training: bool) -> None:
    made = layer_of("randomized-alibi", randomized={"max_length": 40, "capacity": 10})
    q = torch.randn(1, 2, 10, 4)
    dense = made.train(training).encode(q, q, q, x=torch.randn(1, 10, 8)).bias.dense()
    d = -dense[0, :, 9].flip(-1) / torch.tensor([[2.0**-4], [2.0**-8]])
    assert torch.equal(d[0], d[1])
    assert d[0, 0] == 0
    assert (d[0].diff() >= 1).all()
    assert d[0, -1] <= 39
    for i in range(10):
        assert torch.equal(dense[0, :, i, : i + 1].flip(-1), dense[0, :, 9].flip(-1)[:, : i + 1])


def test_transformer_xl_reads_its_curve_at_the_sampled_distances() -> None:
    made = layer_of("randomized-transformer-xl")
    plain, own = made.parts["transformer-xl"], made.parts["randomized"].own  # type: ignore[index, union-attr]
    q, k, v = torch.randn(3, 1, 2, 7, 4)
    encoded = made.encode(q, k, v, x=torch.randn(1, 7, 8))
    d = own.distances(0, 7, q)  # type: ignore[union-attr, operator]
    logits = encoded.bias.score_rows(q, k, 0.5, slice(0, 7))
    for i, j in ((6, 6), (6, 2), (4, 0)):
        r = plain.of_distances(d[i - j : i - j + 1])[:, 0].to(q.dtype)  # type: ignore[operator]
        wanted = ((q[0, :, i] + plain.u[:, 0]) * k[0, :, j]).sum(-1) + ((q[0, :, i] + plain.v[:, 0]) * r).sum(-1)
        torch.testing.assert_close(logits[0, :, i, j], 0.5 * wanted)


@pytest.mark.parametrize("name", ["randomized-alibi", "randomized-rope"])
def test_each_layer_has_its_own_draw_or_all_have_one(name: str) -> None:
    q, k, v = torch.randn(3, 1, 2, 8, 4)
    for draw, alike in (("layer", False), ("model", True)):
        found = []
        for number in (0, 1):
            made = layer_of(name, number, randomized={"draw": draw})
            encoded = made.encode(q, k, v, x=torch.randn(1, 8, 8))
            found.append(encoded.bias.score_rows(encoded.q, encoded.k, 0.5, slice(0, 8)))
        assert torch.allclose(*found) == alike


def test_training_draws_anew_in_each_pass_and_a_checkpoint_remembers_which() -> None:
    made = layer_of("randomized-alibi").train()
    q, x = torch.randn(1, 2, 8, 4), torch.randn(1, 8, 8)
    first, second = (made.encode(q, q, q, x=x).bias.dense() for _ in range(2))
    assert not torch.equal(first, second)
    other = layer_of("randomized-alibi").train()
    other.load_state_dict(made.state_dict())
    assert torch.equal(made.encode(q, q, q, x=x).bias.dense(), other.encode(q, q, q, x=x).bias.dense())
    saved = {name: value for name, value in made.state_dict().items() if "draws" not in name}
    other.load_state_dict(saved)  # of a run before layers had draws
    assert not other.parts["randomized"].own.draws.count  # type: ignore[index, union-attr]


@pytest.mark.parametrize("host", ["fire", "k-cable+window", "dape"])
def test_distances_of_what_has_none_are_refused(host: str) -> None:
    made = layer_of(f"randomized+{host}", randomized={"sampling": "distances"})
    q = torch.randn(1, 2, 5, 4)
    with pytest.raises(UserError, match="distance"):
        made.encode(q, q, q, x=torch.randn(1, 5, 8))
