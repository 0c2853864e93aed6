"""A bias of the key alone, beside the plain formula: values and gradients, any layout, what half precision keeps."""

from __future__ import annotations

import pytest
import torch
from extrapo.attention.cpu.key_bias import KeyBias, can_add_to_keys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import fold, key_bias

SCALE = 0.4


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The formula; bias (B, H, T, 1)."""
    logits = SCALE * q @ k.mT + bias.mT
    later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
    return logits.masked_fill(later, float("-inf")).softmax(-1) @ v


@given(
    batch=st.integers(1, 2), heads=st.integers(1, 3), length=st.integers(2, 70), head=st.integers(1, 18),
    trained=st.booleans(), turned=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_is_the_formula(batch: int, heads: int, length: int, head: int, trained: bool, turned: bool) -> None:
    """`turned`: tokens before heads in memory, as a model's projections leave them."""
    found = []
    for path in (KeyBias.apply, lambda q, k, v, b, _: plain(q, k, v, b)):
        leaves = [draw(batch, heads, length, head, seed=seed) for seed in (1, 2, 3)]
        if turned:
            leaves = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in leaves]
        bias = 5 * draw(1, heads, length, 1, seed=4)
        leaves = [x.requires_grad_() for x in leaves] + ([bias.requires_grad_()] if trained else [])
        out = path(*leaves[:3], bias.expand(batch, -1, -1, -1), SCALE)
        found.append([out, *torch.autograd.grad((out * draw(*out.shape, seed=5)).sum(), leaves)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["alibi", "cable", "cable-nw", "fox"])
def test_a_fold_comes_here(name: str, fused_widths: list[int]) -> None:
    """These are of this kind, in training too, and no column is added to q."""
    made = encodings.create(name, heads=2, head_dim=4, dim=8)
    x = draw(1, 9, 8, dtype=torch.float32)
    q, k, v = (draw(1, 2, 9, 4, seed=seed, dtype=torch.float32) for seed in (1, 2, 3))
    fold(q, k, v, made.bias(x), SCALE)
    assert fused_widths == [4]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_in_half_precision_the_bias_keeps_its_own(dtype: torch.dtype, bound: float) -> None:
    """Positions of 2,000 tokens, where bfloat16 steps by 8: what is left is the rounding of weights and outputs."""
    length = 2_000
    q, k, v = (draw(1, 2, length, 8, seed=seed).to(dtype) for seed in (1, 2, 3))
    position = torch.arange(length).sub(length // 2).mul(0.3).view(1, 1, -1, 1).expand(1, 2, -1, 1)
    got = KeyBias.apply(q, k, v, position, SCALE)
    expected = plain(q.double(), k.double(), v.double(), position.double())
    assert got.dtype == dtype
    assert (got - expected).square().mean().sqrt() < bound * expected.square().mean().sqrt()


def test_what_it_cannot_serve() -> None:
    q, bias = draw(1, 2, 6, 4), draw(1, 2, 6, 1)
    assert can_add_to_keys(q, q, q, bias)
    assert not can_add_to_keys(q[:, :, 3:], q, q, bias), "queries of a later part"
    assert not can_add_to_keys(q, q, draw(1, 2, 6, 8), bias), "values of another width"
    half = q.bfloat16()
    assert can_add_to_keys(half, half, half, bias)
    assert not can_add_to_keys(half, half, half, bias.requires_grad_()), "its gradient would be lost"
    with torch.no_grad():
        assert can_add_to_keys(half, half, half, bias)


def test_what_is_not_trained_costs_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_bias, "widened", lambda *_: pytest.fail("q, k, v were copied"))
    q, k, v = (draw(1, 2, 6, 4, seed=seed).requires_grad_() for seed in (1, 2, 3))
    KeyBias.apply(q, k, v, draw(1, 2, 6, 1), SCALE).sum().backward()
    assert q.grad is not None
    bias = draw(1, 2, 6, 1).requires_grad_()
    with pytest.raises(pytest.fail.Exception, match="were copied"):
        KeyBias.apply(q, k, v, bias, SCALE).sum().backward()
