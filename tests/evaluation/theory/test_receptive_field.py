"""Receptive fields: of biases, and by gradients."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import GPT, GPTConfig
from extrapo.evaluation.theory import receptive_field
from extrapo.evaluation.theory.normalisation import window
from extrapo.kernels import alibi_slopes


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_the_window_of_alibi(eps: float) -> None:
    n = torch.arange(1 << 14, dtype=torch.float64)
    for slope in alibi_slopes(8):
        assert int(window(-slope * n, eps)) == receptive_field.linear_window(slope, eps)


def test_layers_add_up() -> None:
    assert receptive_field.network_bound([[3, 5], [2, 2], [9, 1]]) == 1 + 4 + 1 + 8


def model(encoding: str, layers: int) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(encoding=encoding, layers=layers, heads=2, dim=16, vocab_size=32, train_length=16)).eval()


@pytest.mark.parametrize("layers", [1, 2])
def test_no_gradient_comes_from_behind_the_windows(layers: int) -> None:
    """An independent bound: layers x (window - 1) + 1 tokens."""
    made = model("alibi+window", layers)
    width = made.blocks[0].attention.encoding.part("window").window  # type: ignore[union-attr, operator]
    tokens = torch.randint(0, 32, (3, 101))
    cumulative = receptive_field.cumulative_gradient(made, tokens)
    bound = layers * (int(width) - 1) + 1
    assert receptive_field.reached(cumulative, 1.0) <= min(bound, 100)
    assert float(cumulative[-1]) == pytest.approx(1.0)
    assert (cumulative.diff() >= -1e-12).all()
    assert not any(p.grad is not None for p in made.parameters())


def test_a_gradient_is_that_of_finite_differences() -> None:
    made = model("alibi", 1).double()
    text = torch.randint(0, 32, (1, 9))
    strength = receptive_field.gradient(made, text)

    def loss(at: int, direction: torch.Tensor) -> float:
        def moved(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[0, at] += direction
            return output

        hook = made.embedding.register_forward_hook(moved)
        with torch.no_grad():
            logits = made(text[:, :-1])[0, -1]
        hook.remove()
        return float(-logits.log_softmax(-1)[text[0, -1]])

    step = 1e-5
    for at in (0, 4, 7):
        parts = [(loss(at, step * e) - loss(at, -step * e)) / (2 * step) for e in torch.eye(16).double()]
        assert float(strength[at]) == pytest.approx(math.hypot(*parts), rel=1e-4, abs=1e-7)
