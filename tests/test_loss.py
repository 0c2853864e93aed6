"""Cross-entropy in chunks: the same numbers as in one piece."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import loss

D = 6


def draw(batch: int, length: int, vocab: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch * length + vocab)
    hidden = torch.randn(batch, length, D, generator=generator).requires_grad_()
    weight = torch.randn(vocab, D, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(0, vocab, (batch, length), generator=generator)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


@given(batch=st.integers(1, 3), length=st.integers(1, 150), vocab=st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_in_chunks_as_in_one_piece(batch: int, length: int, vocab: int) -> None:
    hidden, weight, targets = draw(batch, length, vocab)
    expected = plain(hidden, weight, targets)
    wanted = torch.autograd.grad(expected.mean(), [hidden, weight])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "CHUNK_LOGITS", 1)
        assert loss.chunk_rows(vocab) == 64
        each = loss.token_nll(hidden, weight, targets)
        mean = loss.mean_nll(hidden, weight, targets)
        grads = torch.autograd.grad(mean, [hidden, weight])
    assert each.shape == targets.shape
    assert each.dtype == torch.float32
    torch.testing.assert_close(each, expected)
    torch.testing.assert_close(mean, expected.mean())
    for grad, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-6)


def test_a_chunk_holds_so_many_logits() -> None:
    assert loss.chunk_rows(50_304) * 50_304 <= loss.CHUNK_LOGITS
    assert loss.chunk_rows(2**40) == 64


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_a_confident_mistake_is_finite(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_LOGITS", chunk)
    hidden = torch.full((1, 100, 1), 120.0, requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]], requires_grad=True)
    targets = torch.ones(1, 100, dtype=torch.int64)
    mean = loss.mean_nll(hidden, weight, targets)
    assert float(mean.detach()) == pytest.approx(120.0)
    assert loss.token_nll(hidden, weight, targets)[0, 0].item() == pytest.approx(120.0)
    mean.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert hidden.grad.sum().item() == pytest.approx(1.0)


def test_half_precision_is_normalised_in_float32() -> None:
    hidden, weight, targets = draw(2, 50, 30)
    half = loss.token_nll(hidden.bfloat16(), weight.bfloat16(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain(hidden, weight, targets), rtol=0.03, atol=0.1)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_has_no_gradient(frozen: str) -> None:
    tensors = dict(zip(("hidden", "weight"), draw(2, 50, 30), strict=False))
    targets = draw(2, 50, 30)[2]
    tensors[frozen].requires_grad_(False)
    (trained,) = (tensor for name, tensor in tensors.items() if name != frozen)
    (grad,) = torch.autograd.grad(loss.mean_nll(tensors["hidden"], tensors["weight"], targets), [trained])
    (want,) = torch.autograd.grad(plain(tensors["hidden"], tensors["weight"], targets).mean(), [trained])
    torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-6)


def test_under_autocast_gradients_have_the_dtypes_of_what_they_belong_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_LOGITS", 1)
    hidden, weight, targets = draw(2, 100, 30)
    with torch.autocast("cpu", torch.bfloat16):
        mean = loss.mean_nll(hidden, weight, targets)
    assert mean.dtype == torch.float32
    grads = torch.autograd.grad(mean, [hidden, weight])
    wanted = torch.autograd.grad(plain(hidden, weight, targets).mean(), [hidden, weight])
    for grad, want in zip(grads, wanted, strict=True):
        assert grad.dtype == torch.float32
        torch.testing.assert_close(grad, want, rtol=0.05, atol=2e-3)
