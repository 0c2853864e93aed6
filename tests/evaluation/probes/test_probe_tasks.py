"""Probes: items hold what they ask for, and models built to know the answer, or nothing, score as they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo.data.tokenizer import ByteTokenizer, Tokenizer, make_tokenizer
from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.probes import PROBES, run_probe
from extrapo.evaluation.probes.base import wilson

BPE = make_tokenizer("bpe", 400, [f"The pass key is {i * 7919 % 90000 + 10000}. What is it? {i}" for i in range(300)])
TOKENIZERS = {"byte": ByteTokenizer(), "bpe": BPE}
LENGTHS = [256, 512]


def uniform(tokens: Tensor, last: int) -> Tensor:
    """A model that knows nothing."""
    return torch.zeros(len(tokens), last, 500)


def copying(tokens: Tensor, last: int) -> Tensor:
    """A model that looks for the longest earlier match of what it has just read, and says what followed it."""
    likely = torch.zeros(len(tokens), last, 500)
    for row, text in enumerate(tokens.tolist()):
        for back in range(last):
            here = len(text) - last + back
            best, follows = 0, None
            for at in range(here):
                size = 0
                while size <= at and size < 24 and text[at - size] == text[here - size]:
                    size += 1
                if size > best:
                    best, follows = size, text[at + 1]
            if follows is not None:
                likely[row, back, follows] = 10.0
    return likely.log_softmax(-1)


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("name", PROBES.names())
def test_a_model_that_knows_nothing_comes_to_chance_exactly(name: str, tokenizer: Tokenizer) -> None:
    for result in run_probe(PROBES.get(name)(tokenizer), uniform, LENGTHS, items=20):
        assert result.accuracy == pytest.approx(result.chance, abs=1e-9)
        assert result.chance == 0.1
        assert result.n == 20


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("name", PROBES.names())
def test_a_model_that_copies_is_always_right(name: str, tokenizer: Tokenizer) -> None:
    probe = PROBES.get(name)(tokenizer)
    (result,) = run_probe(probe, copying, [200], items=5, places=3)
    assert result.accuracy == 1
    assert [place for place, _, _ in result.places] == [0, 0.5, 1]
    assert result.low == pytest.approx(0.5655, abs=1e-3)
    assert result.high == 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("name", PROBES.names())
@given(length=st.integers(200, 900), place=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_items_are_alike_but_for_the_answer(
    name: str, tokenizer: Tokenizer, length: int, place: float, seed: int
) -> None:
    item = PROBES.get(name)(tokenizer).item(length, place, np.random.default_rng(seed))
    assert item.texts.shape == (10, length + 1)
    assert len(np.unique(item.texts[:, : -item.answer], axis=0)) == 1
    assert len(np.unique(item.texts[:, -item.answer :], axis=0)) == 10
    assert 0 <= item.right < 10
    assert tokenizer.separator not in item.texts


def test_the_place_is_where_the_key_stands() -> None:
    probe = PROBES.get("passkey")(ByteTokenizer())
    at = []
    for place in (0.0, 0.5, 1.0):
        item = probe.item(500, place, np.random.default_rng(0))
        text = ByteTokenizer().decode(item.texts[item.right])
        assert text.endswith(" What is the pass key? The pass key is" + text[-6:])
        assert text.count(text[-6:]) == 3
        at.append(text.index(" The pass key is"))
    assert at[0] == 0
    assert text[at[2] :].startswith(f" The pass key is{text[-6:]}. Remember it.{text[-6:]} is the pass key. What is")
    assert at[1] == pytest.approx(at[2] / 2, abs=1)


def test_results_do_not_depend_on_the_size_of_a_batch() -> None:
    torch.manual_seed(0)
    table = torch.randn(500, 500)

    def model(tokens: Tensor, last: int) -> Tensor:
        return table[tokens[:, -last:]].log_softmax(-1)

    for name in PROBES.names():
        probe = PROBES.get(name)(BPE)
        whole, alone = (run_probe(probe, model, [256], items=30, batch_tokens=size) for size in (10**6, 1))
        assert whole == alone


def test_a_length_that_the_model_does_not_have_is_a_row_with_a_note() -> None:
    def model(tokens: Tensor, last: int) -> Tensor:
        if tokens.size(1) > 256:
            raise NotApplicable("a table of 256")
        return uniform(tokens, last)

    within, past = run_probe(PROBES.get("copy")(BPE), model, LENGTHS, items=4)
    assert within.accuracy == pytest.approx(0.1)
    assert past.accuracy is None
    assert past.row()["note"] == "a table of 256"
    assert "note" not in within.row()


def test_too_short() -> None:
    with pytest.raises(UserError, match=r"probe 'passkey' needs 1[0-9][0-9] tokens with this tokenizer, more than 20"):
        run_probe(PROBES.get("passkey")(ByteTokenizer()), uniform, [20])
    with pytest.raises(UserError, match="probe 'copy' needs a length of at least 42 tokens, not 20"):
        run_probe(PROBES.get("copy")(BPE), uniform, [20])


def test_wilson() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson(1.0, 10)[1] == pytest.approx(1)
