"""Folded forward and back by tiles, beside the plain formula: any rank, sizes and layout, and where it serves."""

from __future__ import annotations

import sys

import pytest
import torch
from extrapo.attention.cpu.fold_tiles import fold_tiles, trains_by_tiles
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import fold
from extrapo.attention.cpu.compiler import has_compiler
from extrapo.kernels.base import Columns, UnitColumns

SCALE = 0.4

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(q: Tensor, k: Tensor, v: Tensor, columns: Columns, scale: float) -> Tensor:
    """The formula."""
    logits = scale * q @ k.mT + columns.u @ columns.w.mT
    later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
    return logits.masked_fill(later, float("-inf")).softmax(-1) @ v


@needs_compiler
@given(
    batch=st.integers(1, 2), heads=st.integers(1, 3), length=st.integers(2, 70), head=st.integers(1, 18),
    values=st.integers(1, 18), rank=st.integers(0, 3), turned=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_is_the_formula(batch: int, heads: int, length: int, head: int, values: int, rank: int, turned: bool) -> None:
    """`rank` 0: a number of each key. `turned`: tokens before heads in memory, as a model's projections leave them."""
    found = []
    for path in (fold_tiles, plain):
        leaves = [draw(batch, heads, length, width, seed=n) for n, width in enumerate((head, head, values))]
        if turned:
            leaves = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in leaves]
        # One for all texts, or one for each head and text.
        u, w = draw(1, heads, length, rank or 1, seed=4), 3 * draw(batch, heads, length, rank or 1, seed=5)
        leaves = [x.requires_grad_() for x in (*leaves, w, *([u] if rank else []))]
        columns = Columns(u, w) if rank else UnitColumns(torch.ones_like(u), w)
        out = path(*leaves[:3], columns, SCALE)
        found.append([out, *torch.autograd.grad((out * draw(*out.shape, seed=6)).sum(), leaves)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@needs_compiler
def test_single_precision_is_as_good_as_it_can_be() -> None:
    """3e-5 of the largest number of each gradient; measured: 2e-6."""
    found = []
    for path, dtype in ((fold_tiles, torch.float32), (plain, torch.float64)):
        leaves = [draw(2, 2, 300, 8, seed=n).to(dtype).requires_grad_() for n in range(3)]
        w = draw(2, 2, 300, 1, seed=3).cumsum(-2).to(dtype).requires_grad_()
        out = path(*leaves, UnitColumns(torch.ones_like(w), w), SCALE)
        found.append([out, *torch.autograd.grad(out, [*leaves, w], draw(*out.shape, seed=6).to(dtype))])
    for got, expected in zip(*found, strict=True):
        assert (got.double() - expected).abs().max() <= 3e-5 * expected.abs().max()


def test_where_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trained bias, in full precision, where the attention is large and its text not too long."""
    monkeypatch.setattr("extrapo.attention.compiled.has_compiler", lambda: True)
    monkeypatch.setattr("extrapo.attention.compiled.WORTHWHILE", 1)

    def serves(length: int, *, trained: bool = True, dtype: torch.dtype = torch.float32) -> bool:
        w = draw(1, 1, length, 1).requires_grad_(trained)
        return trains_by_tiles(draw(1, 1, length, 4).to(dtype), Columns(torch.ones_like(w), w))

    assert serves(512)
    assert serves(4096)
    assert not serves(4097)
    assert not serves(512, trained=False)
    assert not serves(512, dtype=torch.bfloat16), "its gradient would be lost"
    assert not trains_by_tiles(draw(1, 1, 512, 4), None)
    with torch.no_grad():
        assert not serves(512)
    with monkeypatch.context() as many:
        many.setattr(torch, "get_num_threads", lambda: 16)
        assert not serves(512)
    monkeypatch.setattr("extrapo.attention.compiled.WORTHWHILE", 512**2 // 2)
    assert serves(512)
    assert not serves(511)


@pytest.mark.parametrize(("name", "width"), [("cable", 4), ("fox", 4), ("cable-weighted", 8)])
def test_a_fold_comes_here(name: str, width: int, fused_widths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias of the key alone widens nothing on the way forward."""
    monkeypatch.setattr(sys.modules[fold.__module__], "trains_by_tiles", lambda *_: True)
    made = encodings.create(name, heads=2, head_dim=4, dim=8)
    x = draw(1, 9, 8, dtype=torch.float32)
    q, k, v = (draw(1, 2, 9, 4, seed=seed, dtype=torch.float32) for seed in (1, 2, 3))
    fold(q, k, v, made.bias(x), SCALE)
    assert fused_widths == [width]
