"""ReRoPE and Self-Extend against their formulas pair by pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.attention.tiles import attend_by_tiles, one_after_the_other
from extrapo.attention.tiling import tile_slices
from extrapo.encodings import Bias, Context
from extrapo.encodings.rerope import NearAndFar, TwoRanges, overlap
from extrapo.errors import UserError

D, T, SCALE = 6, 23, 0.4
SHAPE = {"heads": 2, "head_dim": D, "dim": 12}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("rerope", {"window": 1}),
    ("rerope", {"window": 7}),
    ("self-extend", {"group": 3, "window": 6}),
    ("self-extend", {"group": 4, "window": 4}),
    ("self-extend", {"group": 1, "window": 5}),
]


def draw(seed: int, length: int = T) -> Tensor:
    return torch.randn(1, 2, length, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(layer: NearAndFar, q: Tensor, k: Tensor, start: int = 0) -> Tensor:
    x = torch.zeros(1, T, 12, dtype=torch.float64)
    return layer.bias(x, None, Context.plain(x, start)).score_rows(q, k, SCALE, slice(0, T))[0].tril()


def distance(name: str, i: int, j: int, window: int, group: int = 1) -> int:
    if i - j < window:
        return i - j
    return window if name == "rerope" else i // group - j // group + window - window // group


def plain(q: Tensor, k: Tensor, name: str, start: int = 0, **options: int) -> Tensor:
    rows = []
    for i in range(T):
        for j in range(T):
            m = distance(name, start + i, start + j, **options)
            total = torch.zeros(2, dtype=torch.float64)
            for c in range(D // 2):
                turn = m * 10_000 ** (-2 * c / D)
                a, b, x, y = q[0, :, i, c], q[0, :, i, c + D // 2], k[0, :, j, c], k[0, :, j, c + D // 2]
                total = total + (a * x + b * y) * math.cos(turn) - (b * x - a * y) * math.sin(turn)
            rows.append(SCALE * total)
    return torch.stack(rows, dim=-1).view(2, T, T).tril()


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("start", [0, 2])
def test_formula(name: str, options: dict[str, int], start: int) -> None:
    """In values and gradients."""
    layer = encodings.create(name, **SHAPE, **options)
    q, k = draw(0).requires_grad_(), draw(1).requires_grad_()
    got, expected = logits(layer, q, k, start), plain(q, k, name, start, **options)
    torch.testing.assert_close(got, expected)
    receive = torch.randn(2, T, T, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * receive).sum(), (q, k))
    for mine, theirs in zip(torch.autograd.grad((got * receive).sum(), (q, k)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def by_tiles(q: Tensor, k: Tensor, v: Tensor, bias: Bias, rows: int) -> Tensor:
    """Attention by tiles of so many rows."""
    return attend_by_tiles(q, k, v, bias, SCALE, one_after_the_other, lambda _: [tile_slices(q.size(2), rows)])


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_tiles_and_steps_of_decoding_equal_the_whole(name: str, options: dict[str, int]) -> None:
    layer = encodings.create(name, **SHAPE, **options)
    q, k, v = (draw(seed, 40) for seed in range(3))
    x = torch.zeros(1, 40, 12, dtype=torch.float64)
    expected = attend(q, k, v, layer.bias(x), scale=SCALE, impl="reference")
    torch.testing.assert_close(by_tiles(q, k, v, layer.bias(x), 16), expected)
    past = None
    for t in (slice(0, 9), slice(9, 10), slice(10, 25), slice(25, 40)):
        past = layer.bias(x[:, t], past)
        rows = attend(q[:, :, t], k[:, :, : t.stop], v[:, :, : t.stop], past, scale=SCALE, impl="reference")
        torch.testing.assert_close(rows, expected[:, :, t])


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3))
def test_columns_that_need_one_product_alone(near: list[list[bool]]) -> None:
    first, last = overlap(torch.tensor(near))
    columns = list(zip(*near, strict=True))
    assert not any(map(any, columns[:first]))
    assert first == 4 or any(columns[first])
    assert all(map(all, columns[last:]))
    assert last == 0 or not all(columns[last - 1])
    assert first <= last


@pytest.mark.parametrize("name", ["rerope", "self-extend"])
def test_within_the_window_it_is_rope(name: str) -> None:
    q, k = draw(0), draw(1)
    x = torch.zeros(1, T, 12, dtype=torch.float64)
    rotated = encodings.create("rope", **SHAPE).transform(q, k, k, x=x, context=Context.plain(x), state=None)
    rope = SCALE * (rotated.q @ rotated.k.transpose(-1, -2))[0].tril()
    torch.testing.assert_close(logits(encodings.create(name, **SHAPE, window=T // 8 * 8 + 8), q, k), rope)


def test_a_group_of_one_is_rope_everywhere() -> None:
    q, k = draw(0), draw(1)
    torch.testing.assert_close(
        logits(encodings.create("self-extend", **SHAPE, group=1, window=3), q, k),
        logits(encodings.create("rerope", **SHAPE, window=T), q, k),
    )


@pytest.mark.parametrize(
    ("name", "train_length", "window"),
    [("rerope", 64, 32), ("rerope", 1, 1), ("self-extend", 64, 32), ("self-extend", 76, 32), ("self-extend", 4, 8)],
)
def test_the_window_is_half_the_training_length_unless_told(name: str, train_length: int, window: int) -> None:
    bias = encodings.create(name, **SHAPE, train_length=train_length).bias(torch.zeros(1, 3, 12))
    assert isinstance(bias, TwoRanges)
    assert bias.window == window


@pytest.mark.parametrize("name", ["rerope", "self-extend"])
def test_layouts_are_a_permutation_of_the_head(name: str) -> None:
    q, k = draw(0), draw(1)
    order = [0, 3, 1, 4, 2, 5]
    half, pairs = (encodings.create(name, **SHAPE, window=8, layout=layout) for layout in ("half", "interleaved"))
    torch.testing.assert_close(logits(half, q, k), logits(pairs, q[..., order], k[..., order]))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="'rerope': window must be at least 1, not 0"):
        encodings.create("rerope", **SHAPE, window=0)
    with pytest.raises(UserError, match="window must be a multiple of the group, not 10 and 4"):
        encodings.create("self-extend", **SHAPE, group=4, window=10)
    with pytest.raises(UserError, match=r"'self-extend'.*must be even, not 7"):
        encodings.create("self-extend", heads=2, head_dim=7, dim=14)
