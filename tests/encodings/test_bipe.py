"""BiPE: segments and offsets against a plain loop, and what RoPE, ALiBi and the table make of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import GPT, GPTConfig, encodings
from extrapo.encodings import Context
from extrapo.encodings.bipe import OffsetEmbedding, Segments
from extrapo.errors import UserError
from extrapo.kernels import alibi_slopes

SHAPE: dict[str, Any] = {"heads": 2, "head_dim": 2, "dim": 4}


def model(name: str, **options: Any) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(encoding=name, encoding_options=options, layers=2, heads=2, dim=8, vocab_size=61, train_length=8)
    return GPT(config).eval()


def test_segments_by_hand() -> None:
    """A separator belongs to the segment that it ends; two in a row make a segment of one token."""
    source = encodings.create("bipe", **SHAPE, vocab_size=257).source()
    assert source is not None
    text = "Ab. c\n.d"
    places = source(torch.tensor([list(text.encode())]), 0, None)
    assert places.index[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 3]
    assert places.offset[0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
    assert places.index.dtype == torch.float64


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 3).flatmap(
        lambda b: st.lists(st.lists(st.integers(0, 4), min_size=b, max_size=b), min_size=1, max_size=30)
    ),
    cuts=st.lists(st.integers(1, 9), min_size=30, max_size=30),
)
def test_segments_against_a_loop(rows: list[list[int]], cuts: list[int]) -> None:
    tokens = torch.tensor(rows).T
    source = Segments([1, 3])
    index, offset = torch.zeros(tokens.shape), torch.zeros(tokens.shape)
    for b in range(tokens.size(0)):
        segment = place = 0
        for t in range(tokens.size(1)):
            index[b, t], offset[b, t] = segment, place
            place += 1
            if tokens[b, t] in (1, 3):
                segment, place = segment + 1, 0
    state, start, found = None, 0, []
    for size in cuts:
        if start < tokens.size(1):
            places = source(tokens[:, start : start + size], start, state)
            state, start = places.state, start + size
            found.append(places)
    assert torch.equal(torch.cat([p.index for p in found], -1).squeeze(1).float(), index)
    assert torch.equal(torch.cat([p.offset for p in found], -1).squeeze(1).float(), offset)


def test_separators() -> None:
    def chosen(vocab_size: int, **options: Any) -> list[int]:
        source = encodings.create("bipe", **SHAPE, vocab_size=vocab_size, **options).source()
        assert isinstance(source, Segments)
        return source.separators.tolist()

    assert chosen(257) == [46, 10] == list(b".\n")
    assert chosen(50_257) == [13, 198]
    assert chosen(32_000, separators=[869, 13]) == [869, 13]
    for wrong in ([], [400], [-1]):
        with pytest.raises(UserError, match="separators must be token ids below 300"):
            chosen(300, separators=wrong)
    with pytest.raises(UserError, match="rows must be at least 1, not -2"):
        encodings.create("bipe", **SHAPE, rows=-2)


def test_default_separators_are_those_of_the_tokenizers() -> None:
    from extrapo.data.vocabularies import make_tokenizer

    for spec, vocab_size in (("byte", 0), ("bpe", 300)):
        tokenizer = make_tokenizer(spec, vocab_size, ["One. Two.\nThree.\n"])
        source = encodings.create("bipe", **SHAPE, vocab_size=tokenizer.vocab_size).source()
        assert isinstance(source, Segments)
        assert source.separators.tolist() == [*tokenizer.encode("."), *tokenizer.encode("\n")]


def test_offsets_beyond_the_table_share_its_last_row() -> None:
    table = OffsetEmbedding(3, 4)
    x = torch.randn(1, 5, 4)
    context = Context(torch.zeros(1, 1, 5), offset=torch.tensor([[[0.0, 1, 2, 3, 0]]]))
    rows = [0, 1, 2, 2, 0]
    assert torch.equal(table(x, context), x + table.weight[rows])
    assert torch.equal(table(x, Context.plain(x)), x + table.weight[[0, 1, 2, 2, 2]]), "one segment"
    assert encodings.create("bipe", **SHAPE, train_length=9).embedding().weight.shape == (9, 4)
    assert encodings.create("bipe", **SHAPE, rows=5).embedding().weight.shape == (5, 4)


def test_rope_turns_by_the_segment() -> None:
    tokens = torch.tensor([[5, 46, 7, 8, 10, 10, 3], [46, 46, 1, 2, 3, 4, 5]])
    bipe = model("bipe-rope")
    segments = torch.tensor([[0, 0, 1, 1, 1, 2, 3], [0, 1, 2, 2, 2, 2, 2]])
    offsets = torch.tensor([[0, 1, 0, 1, 2, 0, 0], [0, 0, 0, 1, 2, 3, 4]])
    rope = model("rope")
    rope.load_state_dict(bipe.state_dict(), strict=False)
    rope.positions = bipe.positions
    there = Context(segments.unsqueeze(1).double(), 0, tokens, offset=offsets.unsqueeze(1).double())
    torch.testing.assert_close(bipe.hidden(tokens), rope.hidden(tokens, context=there), rtol=0, atol=1e-6)


def test_alibi_slopes_are_96_times_as_steep_and_flat_in_a_segment() -> None:
    tokens = torch.tensor([[5, 46, 7, 8, 10, 10, 3]])
    segments = [0, 0, 1, 1, 1, 2, 3]
    (bias, _) = model("bipe-alibi").biases(tokens)
    for h, slope in enumerate(alibi_slopes(2)):
        for i in range(7):
            for j in range(i + 1):
                expected = -96 * slope * (segments[i] - segments[j])
                assert float(bias[0, h, i, j]) == pytest.approx(expected, rel=1e-6)
    gentle = model("bipe-alibi", alibi={"factor": 1.0}).biases(tokens)[0]
    torch.testing.assert_close(96 * gentle.tril(), bias.tril())
    with pytest.raises(UserError, match="factor must be positive, not 0"):
        encodings.create("alibi", heads=2, head_dim=4, dim=8, factor=0.0)


def test_names() -> None:
    assert encodings.split("bipe-rope") == ["bipe", "rope"]
    assert encodings.split("bipe-alibi") == ["bipe", "alibi"]
    assert "2401.16421" in encodings.paper("bipe-alibi").source
    with pytest.raises(UserError, match="'randomized' and 'bipe' both say where tokens stand"):
        model("randomized-bipe-rope")
