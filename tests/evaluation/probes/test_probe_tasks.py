"""Probes: items hold what they ask for, and models built to know the answer, or nothing, score as they must."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig
from extrapo.config import ProbeSettings
from extrapo.data.tokenizer import ByteTokenizer, Tokenizer
from extrapo.data.vocabularies import make_tokenizer
from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.probes import PROBES, NextTokens, Probe, Result, Task, run_probe
from extrapo.evaluation.probes.likelihood import likelihoods
from extrapo.evaluation.probes.result import variant_of, wilson

BPE = make_tokenizer("bpe", 400, [f"The pass key is {i * 7919 % 90000 + 10000}. What is it? {i}" for i in range(300)])
TOKENIZERS = {"byte": ByteTokenizer(), "bpe": BPE}
LENGTHS = [256, 512]
#: Tasks whose items can be made at any length.
ANY_LENGTH = [name for name in PROBES.names() if issubclass(PROBES.get(name), Probe)]


@cache
def made(name: str, tokenizer: Tokenizer, **options: int) -> Probe:
    probe = PROBES.get(name)(tokenizer, **options)
    assert isinstance(probe, Probe)
    return probe


def ask(probe: Task, model: NextTokens, lengths: list[int], **settings: int) -> list[Result]:
    return run_probe([probe], model, lengths, ProbeSettings(**settings))


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
@pytest.mark.parametrize("name", ANY_LENGTH)
def test_a_model_that_knows_nothing_comes_to_chance_exactly(name: str, tokenizer: Tokenizer) -> None:
    for result in ask(made(name, tokenizer), uniform, [768, 1024], items=20):
        assert result.accuracy == pytest.approx(result.chance, abs=1e-9)
        assert result.chance == 0.1
        assert result.n == 20


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("name", ANY_LENGTH)
def test_a_model_that_copies_is_always_right(name: str, tokenizer: Tokenizer) -> None:
    (result,) = ask(made(name, tokenizer), copying, [1000 if name == "recall" else 200], items=5, places=3)
    assert result.accuracy == 1
    assert [place for place, _, _ in result.places] == [0, 0.5, 1]
    assert result.low == pytest.approx(0.5655, abs=1e-3)
    assert result.high == 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("name", ANY_LENGTH)
@given(length=st.integers(700, 1200), place=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_items_are_alike_but_for_the_answer(
    name: str, tokenizer: Tokenizer, length: int, place: float, seed: int
) -> None:
    item = made(name, tokenizer).item(length, place, np.random.default_rng(seed))
    texts, (size,) = np.stack(item.texts), set(item.answers)
    assert texts.shape == (10, length + 1)
    assert len(np.unique(texts[:, :-size], axis=0)) == 1
    assert len(np.unique(texts[:, -size:], axis=0)) == 10
    assert 0 <= item.right < 10
    assert tokenizer.separator not in texts


def test_the_place_is_where_the_key_stands() -> None:
    probe = made("passkey", ByteTokenizer())
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

    for name in ANY_LENGTH:
        probe = made(name, BPE)
        results = [ask(probe, model, [768], items=12, batch_tokens=size) for size in (10**6, 7 * 768, 1)]
        assert results[0] == results[1] == results[2]


def test_a_network_finds_answers_as_likely_in_any_batch() -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=BPE.vocab_size, layers=2, heads=2, dim=16, encoding="k-cable")).eval()
    items = made("copy", BPE).items(100, ProbeSettings(items=5))
    texts, sizes = [text for item in items for text in item.texts], [size for item in items for size in item.answers]

    @torch.no_grad()
    def model(tokens: Tensor, last: int) -> Tensor:
        return gpt(tokens)[:, -last:].log_softmax(-1)

    found = [
        [one.log for one in likelihoods(texts, sizes, model, device="cpu", batch_tokens=size)]
        for size in (1, 250, 10**6)
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert found[2] == pytest.approx(found[0], abs=1e-5)
    assert len(set(found[0])) > 10


def test_a_length_that_the_model_does_not_have_is_a_row_with_a_note() -> None:
    def model(tokens: Tensor, last: int) -> Tensor:
        if tokens.size(1) > 256:
            raise NotApplicable("a table of 256")
        return uniform(tokens, last)

    within, past = ask(made("copy", BPE), model, LENGTHS, items=4)
    assert within.accuracy == pytest.approx(0.1)
    assert past.accuracy is None
    assert past.row()["note"] == "a table of 256"
    assert "note" not in within.row()


def test_too_short() -> None:
    with pytest.raises(UserError, match=r"probe 'passkey' needs 1[0-9][0-9] tokens with this tokenizer, more than 20"):
        ask(made("passkey", ByteTokenizer()), uniform, [20])
    with pytest.raises(UserError, match="probe 'copy' needs a length of at least 42 tokens, not 20"):
        ask(made("copy", BPE), uniform, [20])


def test_more_questions_than_fit_into_memory_are_refused_and_any_number_of_places_is_none() -> None:
    probe = made("induction", ByteTokenizer())
    for length, items in ((99_999_999_999, 1), (64, 10**12)):
        with pytest.raises(UserError, match=f"`items={items}` of {length:,} tokens"):
            probe.items(length, ProbeSettings(items=items))
    assert len(probe.items(64, ProbeSettings(items=3, places=10**12))) == 3


def test_wilson() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson(1.0, 10)[1] == pytest.approx(1)
    for n in range(1, 600, 7):
        for share in (0.0, 1 / 3, 1.0):
            low, high = wilson(share, n)
            assert 0 <= low <= share <= high <= 1


def test_of_many_keys_each_stands_once_and_the_asked_one_at_its_place() -> None:
    at = []
    for place in (0.0, 0.5, 1.0):
        item = made("recall", ByteTokenizer(), keys=3).item(1500, place, np.random.default_rng(0))
        text = ByteTokenizer().decode(item.texts[item.right])
        key, value = text.rsplit("The number of the ", 1)[1].split(" is ")
        assert text.endswith(f" What is the number of the {key}? The number of the {key} is {value}")
        assert text.count(f" The number of the {key} is {value}") == 2
        assert text.count(" The number of the ") == 4
        at.append(text.index(f" The number of the {key} is {value}."))
    assert at[0] == 0
    assert at[1] == pytest.approx(750, abs=120)  # the two others may stand before it, or not
    assert text[at[2] :].startswith(f" The number of the {key} is {value}. What is the number")
    # All that can be answered stands in the text: having seen a number is not enough.
    assert all(ByteTokenizer().decode(one[-item.answers[0] :]) in text[:-6] for one in item.texts)


def latest_number(tokens: Tensor, last: int) -> Tensor:
    """A model that finds numbers, and takes the last one in the text whatever is asked."""
    likely = torch.zeros(len(tokens), last, 500)
    for row, text in enumerate(tokens.tolist()):
        number = ByteTokenizer().decode(text).rsplit(".", 1)[0][-5:]
        likely[row, range(6), list(f" {number}".encode())] = 10.0
    return likely.log_softmax(-1)


def test_who_finds_a_number_and_not_its_key_is_right_by_chance() -> None:
    wanted = ProbeSettings(keys=(2, 5), items=100, places=9, seed=1)
    tasks = PROBES.get("recall").asked(ByteTokenizer(), wanted)
    results = run_probe(tasks, latest_number, [600], wanted)
    assert [variant_of(result.row()) for result in results] == [{"keys": 2}, {"keys": 5}]
    assert [result.chance for result in results] == [0.5, 0.2]
    for result in results:
        assert result.low is not None
        assert result.high is not None
        assert result.low - 0.02 < result.chance < result.high + 0.02
    with pytest.raises(
        UserError, match=r"probe 'recall' with 2 keys needs .* tokens with this tokenizer, more than 90"
    ):
        run_probe(tasks, uniform, [90], wanted)
    with pytest.raises(UserError, match="`keys` must be from 2 to 576, not 1"):
        made("recall", ByteTokenizer(), keys=1)
