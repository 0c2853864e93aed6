"""What attention does pair by pair: the biases are the model's, the weights those of the plain formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from extrapo.config import GPTConfig
from extrapo.evaluation.look import looks
from extrapo.evaluation.theory.passes import passes
from extrapo.gpt import GPT

TOKENS = torch.randint(0, 11, (1, 24), generator=torch.Generator().manual_seed(0))


def model(encoding: str, **more: object) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(encoding=encoding, layers=2, heads=2, dim=16, vocab_size=11, train_length=24, **more)).eval()


@pytest.mark.parametrize("encoding", ["alibi", "rope", "k-cable", "cable-weighted", "cope", "path", "rope+window"])
def test_biases_are_those_of_the_model_and_weights_those_of_each_row(encoding: str) -> None:
    gpt = model(encoding)
    found = looks(gpt, TOKENS)
    for look, bias, layer in zip(found, gpt.biases(TOKENS), passes(gpt, TOKENS), strict=True):
        np.testing.assert_allclose(look.bias, bias[0].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(look.weights.sum(-1), 1.0, rtol=1e-5)
        for place in (0, 7, 23):
            row = layer.row(place).p.flip(-1).numpy()
            np.testing.assert_allclose(look.weights[:, place, : place + 1], row, rtol=2e-4, atol=1e-7)


def test_logarithms_of_weights_leave_out_what_is_not_seen() -> None:
    for look in looks(model("nope+window", encoding_options={"window": {"window": 6}}), TOKENS):
        logs = look.log_weights()
        np.testing.assert_array_equal(np.isneginf(logs), np.isneginf(look.bias))
        assert np.isneginf(logs[:, 23, :17]).all()
        np.testing.assert_allclose(np.power(10.0, logs).sum(-1), 1.0, rtol=1e-5)


def test_stick_breaking_leaves_some_weight_over() -> None:
    assert all((look.weights.sum(-1) < 1).any() for look in looks(model("stick-breaking"), TOKENS))


def test_positions_where_tokens_drive_them_alone() -> None:
    assert all(look.positions is None and look.gates is None for look in looks(model("alibi"), TOKENS))
    (first, _) = looks(model("cable-weighted"), TOKENS)
    assert first.positions is not None
    assert first.gates is not None
    # A linear kernel: the bias is minus the gated distance.
    distance = first.gates[:, :, None] * (first.positions[:, :, None] - first.positions[:, None])
    seen = np.tril(np.ones((24, 24), dtype=bool))
    np.testing.assert_allclose(first.bias[:, seen], -distance[:, seen], rtol=1e-4, atol=1e-5)


def test_the_first_tokens_are_seen_as_if_nothing_followed() -> None:
    gpt = model("k-cable")
    whole, part = looks(gpt, TOKENS)[1].first(9), looks(gpt, TOKENS[:, :9])[1]
    assert whole.bias.shape == (2, 9, 9)
    np.testing.assert_allclose(whole.weights, part.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.positions, part.positions, rtol=1e-5)
