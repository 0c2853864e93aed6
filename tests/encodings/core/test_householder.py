"""Products of Householder steps against the matrices themselves, multiplied out."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings.core.householder import chunked, propagate_keys, wy_triangle


def steps(seed: int, tokens: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows w (T, d) and beta (T,) in (0, 2), float64."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    return w / w.norm(dim=-1, keepdim=True), 2 * torch.rand(tokens, generator=generator, dtype=torch.float64)


def product(w: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """H_m ... H_2 H_1."""
    total = torch.eye(w.size(-1), dtype=w.dtype)
    for row, b in zip(w, beta, strict=True):
        total = (torch.eye(w.size(-1), dtype=w.dtype) - b * torch.outer(row, row)) @ total
    return total


@given(seed=st.integers(0, 99), tokens=st.integers(1, 9), width=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_chunk_is_one_matrix(seed: int, tokens: int, width: int) -> None:
    w, beta = steps(seed, tokens, width)
    t = wy_triangle(w, beta)
    one = torch.eye(width, dtype=w.dtype) - w.T @ t @ w
    torch.testing.assert_close(one, product(w, beta), rtol=0, atol=1e-12)
    first = max(1, tokens // 2)
    torch.testing.assert_close(t[:first, :first], wy_triangle(w[:first], beta[:first]), rtol=0, atol=1e-12)
    assert torch.equal(t, t.tril())


@given(seed=st.integers(0, 99), before=st.integers(0, 4), tokens=st.integers(1, 7), own=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_keys_go_through_the_steps_after_them(seed: int, before: int, tokens: int, own: int) -> None:
    w, beta = steps(seed, tokens, 5)
    keys = torch.randn(before + min(own, tokens), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    got = propagate_keys(keys, w, wy_triangle(w, beta), before)
    for j, key in enumerate(keys):
        later = max(0, j - before + 1)
        torch.testing.assert_close(got[j], product(w[later:], beta[later:]) @ key, rtol=0, atol=1e-12)


def test_gradients_are_those_of_the_product() -> None:
    w, beta = steps(0, 6, 4)
    key = torch.randn(4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    receive = torch.arange(4, dtype=torch.float64)
    leaves = [leaf.requires_grad_() for leaf in (w, beta, key)]
    fast = propagate_keys(key.view(1, 4), w, wy_triangle(w, beta), before=1)[0]
    slow = product(w, beta) @ key
    for got, expected in zip(
        torch.autograd.grad(fast @ receive, leaves), torch.autograd.grad(slow @ receive, leaves), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_chunks_end_in_steps_that_do_nothing() -> None:
    w, beta = steps(0, 7, 3)
    parts, betas = chunked(w, 4), chunked(beta.unsqueeze(-1), 4).squeeze(-1)
    assert parts.shape == (2, 4, 3)
    assert not parts[1, 3:].any()
    first, last = (
        torch.eye(3, dtype=w.dtype) - p.T @ t @ p for p, t in zip(parts, wy_triangle(parts, betas), strict=True)
    )
    torch.testing.assert_close(last @ first, product(w, beta), rtol=0, atol=1e-12)


def test_the_same_reflection_again_and_again_stays_bounded() -> None:
    w = torch.zeros(64, 4, dtype=torch.float64)
    w[:, 0] = 1.0
    t = wy_triangle(w, torch.full((64,), 2.0, dtype=torch.float64))
    assert t.abs().max() == 4.0
    key = torch.ones(1, 4, dtype=torch.float64)
    assert torch.equal(propagate_keys(key, w, t, before=1), key)
