"""Which compute path serves, and that it says why in one line."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.attention import IMPLS, attend, can_fold, choose
from extrapo.encodings import Bias
from extrapo.errors import UserError

HEADS, HEAD_DIM, DIM = 2, 4, 8


def bias(name: str) -> Bias:
    torch.manual_seed(0)
    return encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).bias(torch.randn(1, 6, DIM))


def queries(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(1, HEADS, 6, HEAD_DIM, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("name", encodings.names())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_encoding_is_served_and_told_why(name: str, dtype: torch.dtype) -> None:
    chosen = choose(bias(name), queries(dtype))
    assert chosen.impl in IMPLS
    assert chosen.reason
    assert "\n" not in chosen.reason


@pytest.mark.parametrize(
    ("name", "impl", "why"),
    [
        ("nope", "fold", "no bias"),
        ("rope", "fold", "no bias"),
        ("alibi", "fold", "low rank"),
        ("cable-weighted", "fold", "low rank"),
        ("k-cable", "tiles", "full rank"),
        ("rope+k-cable", "tiles", "full rank"),
        ("adaptive", "tiles", "owns its logits"),
    ],
)
def test_the_cheapest_exact_path(name: str, impl: str, why: str) -> None:
    chosen = choose(bias(name), queries())
    assert chosen.impl == impl
    assert why in chosen.reason


def test_half_precision_names_itself() -> None:
    assert "bfloat16" in choose(bias("cable-weighted"), queries(torch.bfloat16)).reason


@pytest.mark.parametrize("impl", sorted(IMPLS))
def test_what_is_asked_for_is_given(impl: str) -> None:
    assert choose(bias("cable"), queries(), impl) == (impl, "asked for")


@pytest.mark.parametrize("name", ["k-cable", "adaptive"])
def test_fold_refuses_a_bias_of_full_rank(name: str) -> None:
    with pytest.raises(UserError, match=r"'fold' needs a bias of low rank.*use 'auto' or 'tiles'") as refused:
        attend(queries(), queries(), queries(), bias(name), scale=0.5, impl="fold")
    assert "\n" not in str(refused.value)


def test_unknown_impl() -> None:
    with pytest.raises(UserError, match="unknown impl 'tile'; did you mean 'tiles'"):
        choose(bias("nope"), queries(), "tile")


@pytest.mark.parametrize("name", encodings.names())
def test_all_paths_agree(name: str) -> None:
    made, q, scale = bias(name), queries(), 1 / math.sqrt(HEAD_DIM)
    expected = attend(q, q, q, made, scale=scale, impl="reference")
    for impl in ["auto", "tiles", *(["fold"] if can_fold(made) else [])]:
        got = attend(q, q, q, made, scale=scale, impl=impl)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["alibi", "k-cable", "adaptive"])
def test_one_query_copies_no_key(name: str) -> None:
    chosen = choose(bias(name), queries()[:, :, :1])
    assert chosen.impl == "row"
    assert "one query" in chosen.reason


def test_a_fold_says_where_its_gradients_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts of a trained bias go back by tiles, see `fold_tiles`."""
    monkeypatch.setattr("extrapo.attention.compiled.WORTHWHILE", 1)
    monkeypatch.setattr("extrapo.attention.compiled.has_compiler", lambda: True)
    x, q = torch.randn(1, 512, DIM), torch.randn(1, HEADS, 512, HEAD_DIM, requires_grad=True)
    for name, said in (("alibi", False), ("cable", True), ("cable-weighted", True)):
        made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM)
        chosen = choose(made.bias(x), q)
        assert chosen.impl == "fold"
        assert ("compiles" in chosen.reason) == said
