"""A bias of low rank on a CPU, beside the plain formula: values and gradients, any layout, and where it serves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import force_compile
from extrapo.attention.cpu import compiler, fold
from extrapo.attention.cpu.fold import CPUFold, KeyBiasAttention, train_by_tiles, trains_by_tiles
from extrapo.encodings import Bias
from extrapo.kernels.low_rank import KeyBias, LowRank

SCALE = 0.4

BACKEND = CPUFold()


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(q: Tensor, k: Tensor, v: Tensor, columns: LowRank, scale: float) -> Tensor:
    """The formula."""
    logits = scale * q @ k.mT + columns.u @ columns.w.mT
    later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
    return logits.masked_fill(later, float("-inf")).softmax(-1) @ v


def beside_keys(q: Tensor, k: Tensor, v: Tensor, columns: LowRank, scale: float) -> Tensor:
    found: Tensor = KeyBiasAttention.apply(q, k, v, columns.w.expand(*k.shape[:-1], 1), scale)  # type: ignore[no-untyped-call]
    return found


def bias(name: str, *, length: int = 9, trained: bool = True, **options: Any) -> Bias:
    torch.manual_seed(0)
    made = encodings.create(name, heads=2, head_dim=4, dim=8, **options).requires_grad_(trained)
    return made.bias(draw(1, length, 8, dtype=torch.float32))


def tokens_first(x: Tensor) -> Tensor:
    """The same, with tokens before heads in memory, as a model's projections leave them."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


# -- beside the keys -------------------------------------------------------------------------------------------------


@given(
    batch=st.integers(1, 2), heads=st.integers(1, 3), length=st.integers(2, 70), head=st.integers(1, 18),
    trained=st.booleans(), turned=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_key_bias_is_the_formula(batch: int, heads: int, length: int, head: int, trained: bool, turned: bool) -> None:
    found = []
    for path in (beside_keys, plain):
        leaves = [draw(batch, heads, length, head, seed=seed) for seed in (1, 2, 3)]
        leaves = [(tokens_first(x) if turned else x).requires_grad_() for x in leaves]
        w = (5 * draw(1, heads, length, 1, seed=4)).requires_grad_(trained)
        out = path(*leaves[:3], KeyBias(torch.ones_like(w), w), SCALE)
        wanted = [*leaves, w] if trained else leaves
        found.append([out, *torch.autograd.grad((out * draw(*out.shape, seed=5)).sum(), wanted)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_in_half_precision_the_bias_keeps_its_own(dtype: torch.dtype, bound: float) -> None:
    """Positions of 2,000 tokens, where bfloat16 steps by 8: what is left is the rounding of weights and outputs."""
    length = 2_000
    q, k, v = (draw(1, 2, length, 8, seed=seed).to(dtype) for seed in (1, 2, 3))
    position = torch.arange(length).sub(length // 2).mul(0.3).view(1, 1, -1, 1)
    columns = KeyBias(torch.ones_like(position), position)
    got = beside_keys(q, k, v, columns, SCALE)
    wide = KeyBias(columns.u.double(), columns.w.double())
    expected = plain(q.double(), k.double(), v.double(), wide, SCALE)
    assert got.dtype == dtype
    assert (got - expected).square().mean().sqrt() < bound * expected.square().mean().sqrt()


def test_what_is_not_trained_costs_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "with_columns", lambda *_: pytest.fail("q, k, v were copied"))
    q, k, v = (draw(1, 2, 6, 4, seed=seed).requires_grad_() for seed in (1, 2, 3))
    w = draw(1, 2, 6, 1)
    beside_keys(q, k, v, KeyBias(torch.ones_like(w), w), SCALE).sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    with pytest.raises(pytest.fail.Exception, match="were copied"):
        beside_keys(q, k, v, KeyBias(torch.ones_like(w), w.requires_grad_()), SCALE).sum().backward()  # type: ignore[no-untyped-call]


# -- back by tiles ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
@given(
    batch=st.integers(1, 2), heads=st.integers(1, 3), length=st.integers(2, 70), head=st.integers(1, 18),
    values=st.integers(1, 18), rank=st.integers(0, 3), turned=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_gradients_by_tiles_are_the_formula(
    batch: int, heads: int, length: int, head: int, values: int, rank: int, turned: bool
) -> None:
    """`rank` 0: a number of each key."""
    found = []
    for path in (train_by_tiles, plain):
        leaves = [draw(batch, heads, length, width, seed=n) for n, width in enumerate((head, head, values))]
        leaves = [tokens_first(x) if turned else x for x in leaves]
        # One for all texts, or one for each head and text.
        u, w = draw(1, heads, length, rank or 1, seed=4), 3 * draw(batch, heads, length, rank or 1, seed=5)
        leaves = [x.requires_grad_() for x in (*leaves, w, *([u] if rank else []))]
        columns = LowRank(u, w) if rank else KeyBias(torch.ones_like(u), w)
        out = path(*leaves[:3], columns, SCALE)
        found.append([out, *torch.autograd.grad((out * draw(*out.shape, seed=6)).sum(), leaves)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
def test_single_precision_is_as_good_as_it_can_be() -> None:
    """3e-5 of the largest number of each gradient; measured: 2e-6."""
    found = []
    for path, dtype in ((train_by_tiles, torch.float32), (plain, torch.float64)):
        leaves = [draw(2, 2, 300, 8, seed=n).to(dtype).requires_grad_() for n in range(3)]
        w = draw(2, 2, 300, 1, seed=3).cumsum(-2).to(dtype).requires_grad_()
        out = path(*leaves, KeyBias(torch.ones_like(w), w), SCALE)
        found.append([out, *torch.autograd.grad(out, [*leaves, w], draw(*out.shape, seed=6).to(dtype))])
    for got, expected in zip(*found, strict=True):
        assert (got.double() - expected).abs().max() <= 3e-5 * expected.abs().max()


def test_where_gradients_go_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trained bias, in full precision, where compiling pays: whether it is faster so is measured elsewhere."""
    monkeypatch.setattr(compiler, "has_compiler", lambda: True)
    monkeypatch.setattr(compiler, "MIN_LOGITS", 512**2)

    def serves(length: int, *, trained: bool = True, dtype: torch.dtype = torch.float32) -> bool:
        w = draw(1, 1, length, 1).requires_grad_(trained)
        return trains_by_tiles(draw(1, 1, length, 4).to(dtype), LowRank(torch.ones_like(w), w))

    assert serves(512)
    assert serves(10_000)
    assert not serves(511)
    assert not serves(512, trained=False)
    assert not serves(512, dtype=torch.bfloat16), "its gradient would be lost"
    with torch.no_grad():
        assert not serves(512)


# -- which biases it serves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "serves"), [("alibi", True), ("cable", True), ("cable-nw", True), ("fox", True)])
def test_a_number_of_each_key_widens_nothing(name: str, serves: bool, fused_widths: list[int]) -> None:
    """No column is added to q where the bias is not trained; where it is, one would not do in float32."""
    q, k, v = (draw(1, 2, 9, 4, seed=seed, dtype=torch.float32) for seed in (1, 2, 3))
    assert BACKEND.serves(bias(name, trained=False), q, k)
    BACKEND(q, k, v, bias(name, trained=False), scale=SCALE)
    assert fused_widths == [4]
    assert bool(BACKEND.serves(bias(name), q, k)) == (name == "alibi")


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize(("name", "width"), [("cable", 8), ("fox", 8), ("cable-weighted", 8)])
def test_a_trained_bias_goes_back_by_tiles(name: str, width: int, fused_widths: list[int]) -> None:
    """In four columns or one, which the fused kernel takes by eights."""
    q, k, v = (draw(1, 2, 9, 4, seed=seed, dtype=torch.float32).requires_grad_() for seed in (1, 2, 3))
    with force_compile():
        verdict = BACKEND.serves(bias(name), q, k)
        assert verdict
        assert "compiles" in verdict.reason
        out = BACKEND(q, k, v, bias(name), scale=SCALE)
    assert fused_widths == [width]
    assert out.grad_fn is not None
    assert "TileTrained" in type(out.grad_fn).__name__


@pytest.mark.parametrize("name", ["nope", "cable-weighted", "k-cable", "cope", "window"])
def test_the_others_are_left_to_others(name: str) -> None:
    """No bias at all, columns, full rank, own logits, a window: and each is told why in a line."""
    q = draw(1, 2, 9, 4, dtype=torch.float32)
    verdict = BACKEND.serves(bias(name).bind(q, q), q, q)
    assert not verdict
    assert verdict.reason
    assert "\n" not in verdict.reason


def test_a_part_of_a_text_is_left_to_others() -> None:
    q = draw(1, 2, 9, 4, dtype=torch.float32)
    made = bias("alibi")
    assert not BACKEND.serves(made, q[:, :, 3:], q)
    assert not BACKEND.serves(made, q[:, :, :1], q[:, :, :1])
    assert not BACKEND.serves(made, q.to("meta"), q.to("meta"))


def test_half_precision_would_lose_the_gradient() -> None:
    half = draw(1, 2, 9, 4).bfloat16()
    verdict = BACKEND.serves(bias("cable"), half, half)
    assert not verdict
    assert "bfloat16" in verdict.reason
    assert BACKEND.serves(bias("cable", trained=False), half, half)
    with torch.no_grad():
        assert BACKEND.serves(bias("cable"), half, half)


@pytest.mark.parametrize("width", [3, 7])
def test_values_of_another_width(width: int) -> None:
    q, k, v = (draw(1, 2, 9, d, seed=seed, dtype=torch.float32) for seed, d in ((1, 4), (2, 4), (3, width)))
    made = bias("alibi")
    columns = LowRank(*(x.float() for x in made.low_rank()))  # type: ignore[attr-defined]
    torch.testing.assert_close(
        BACKEND(q, k, v, made, scale=SCALE), plain(q, k, v, columns, SCALE), rtol=1e-5, atol=1e-5
    )
