"""Drawing the next token, and that cached decoding writes what the parallel pass would."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import GPT, GPTConfig
from extrapo.data.tokenizer import ByteTokenizer
from extrapo.errors import UserError
from extrapo.run.generate import Sampling, decoded, generate_ids, generate_text, probabilities

LOGITS = torch.tensor([0.0, 3.0, 1.0, 2.0])


def model(encoding: str = "k-cable") -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(encoding=encoding, layers=2, heads=2, dim=16, vocab_size=31)).eval()


def test_temperature() -> None:
    assert probabilities(LOGITS, Sampling(temperature=0)).tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(probabilities(LOGITS, Sampling(temperature=2.0)), (LOGITS.double() / 2).softmax(-1))


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers(logit: float, temperature: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        probabilities(torch.tensor([0.0, logit]), Sampling(temperature=temperature))


def test_top_k() -> None:
    expected = torch.tensor([0.0, 1.0, 0.0, torch.tensor(-1.0).exp()])
    torch.testing.assert_close(probabilities(LOGITS, Sampling(top_k=2)), (expected / expected.sum()).double())
    assert (probabilities(LOGITS, Sampling(top_k=9)) > 0).all()


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    p = LOGITS.softmax(-1)  # 0.032, 0.644, 0.087, 0.237
    assert probabilities(LOGITS, Sampling(top_p=0.64)).tolist() == [0, 1, 0, 0]
    kept = probabilities(LOGITS, Sampling(top_p=0.65))
    torch.testing.assert_close(kept[1], (p[1] / (p[1] + p[3])).double())
    assert kept[[0, 2]].tolist() == [0, 0]


@given(
    logits=st.lists(st.floats(-50, 50), min_size=1, max_size=30),
    temperature=st.floats(0, 5),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.floats(0.01, 1),
)
@settings(max_examples=100, deadline=None)
def test_what_is_drawn_from_are_probabilities(
    logits: list[float], temperature: float, top_k: int | None, top_p: float
) -> None:
    p = probabilities(torch.tensor(logits), Sampling(temperature, top_k, top_p))
    assert p.shape == (len(logits),)
    assert (p >= 0).all()
    assert abs(float(p.sum()) - 1) < 1e-9
    assert p.max() == p[torch.tensor(logits).argmax()]


@pytest.mark.parametrize("encoding", ["nope", "cable", "k-cable", "rope+kerple-log"])
def test_the_likeliest_text_is_that_of_the_parallel_pass(encoding: str) -> None:
    gpt, ids = model(encoding), torch.tensor([3, 1, 4])
    written = list(islice(generate_ids(gpt, ids, Sampling(temperature=0), chunk=2), 40))
    for one in written:
        assert one == int(gpt(ids.unsqueeze(0))[0, -1].argmax())
        ids = torch.cat([ids, torch.tensor([one])])


def test_a_seed_is_a_text() -> None:
    first, again, other = (
        list(islice(generate_ids(model(), torch.tensor([1]), Sampling(seed=seed)), 30)) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_values_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must be"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_an_empty_prompt() -> None:
    with pytest.raises(UserError, match="prompt"):
        next(generate_ids(model(), torch.tensor([], dtype=torch.int64), Sampling()))


def test_characters_come_whole() -> None:
    pieces = list(decoded(ByteTokenizer(), iter("aé€".encode())))
    assert pieces == [("a", 1), ("é", 3), ("€", 6)]
    assert list(decoded(ByteTokenizer(), iter("é".encode()[:1]))) == [("\ufffd", 1)]


def test_text_goes_on_from_something() -> None:
    gpt = GPT(GPTConfig(layers=1, heads=2, dim=16, vocab_size=257)).eval()
    pieces = list(generate_text(gpt, ByteTokenizer(), "a", Sampling(seed=1), tokens=9))
    assert pieces[-1][1] == 9
    with pytest.raises(UserError, match="`prompt` must not be empty"):
        generate_text(gpt, ByteTokenizer(), "", Sampling(), tokens=9)
