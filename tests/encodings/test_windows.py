"""Windows against dense masks, and rotated sinks against a cache of the tokens in sight, query by query."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend, attend_under
from extrapo.encodings import Context, Encoding, LayerSpec, windows
from extrapo.encodings.core.visibility import Visibility, hidden
from extrapo.errors import UserError

HEADS, D = 2, 4
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def draws(length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, length, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v, torch.randn(2, length, HEADS * D, generator=generator, dtype=torch.float64)


def seen(i: int, window: int, sinks: int) -> list[int]:
    return [j for j in range(i + 1) if i - j < window or j < sinks]


@pytest.mark.parametrize("impl", ["reference", "tiles"])
@pytest.mark.parametrize("host", ["alibi", "k-cable", "adaptive", None])
@settings(max_examples=6, deadline=None)
@given(window=st.integers(1, 40), sinks=st.integers(0, 5), length=st.integers(1, 37))
def test_a_window_is_a_dense_mask(impl: str, host: str | None, window: int, sinks: int, length: int) -> None:
    torch.manual_seed(1)
    under = encodings.create(host or "nope", **SHAPE).double()
    q, k, v, x = (t.requires_grad_() for t in draws(length))
    layer = windows.Sinks(LayerSpec(**SHAPE), window=window, sinks=sinks)
    got = attend(q, k, v, layer.wrap(under.bias(x), x, None), scale=SCALE, impl=impl)
    logits = under.bias(x).score_rows(q, k, SCALE, slice(0, length))
    mask = torch.full((length, length), float("-inf"), dtype=torch.float64)
    for i in range(length):
        mask[i, seen(i, window, sinks)] = 0.0
    expected = (logits + mask).softmax(-1) @ v
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    receive, leaves = torch.randn_like(got), [q, k, v, *under.parameters()]
    found, wanted = (torch.autograd.grad((t * receive).sum(), leaves) for t in (got, expected))
    for one, other in zip(found, wanted, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(window=st.integers(1, 12), sinks=st.integers(0, 4), past=st.integers(0, 9), new=st.integers(1, 6))
def test_new_tokens_after_others(window: int, sinks: int, past: int, new: int) -> None:
    unseen = hidden(new, past + new, Visibility(window, sinks), torch.device("cpu"))
    for row in range(new):
        i = past + row
        assert [j for j in range(i + 1) if not unseen[row, j]] == seen(i, window, sinks)


def rotated(x: Tensor, at: list[float]) -> Tensor:
    """(B, H, n, d) at given positions, RoPE."""
    theta = torch.tensor([1.0, 0.01], dtype=torch.float64)
    turn = torch.tensor(at, dtype=torch.float64).unsqueeze(-1) * theta
    z = torch.complex(x[..., :2], x[..., 2:]) * torch.polar(torch.ones_like(turn), turn)
    return torch.cat([z.real, z.imag], dim=-1)


def by_cache(q: Tensor, k: Tensor, v: Tensor, window: int, sinks: int) -> Tensor:
    """StreamingLLM: the tokens in sight stand at 0, 1, 2 ..., the query's own last."""
    rows = []
    for i in range(q.size(2)):
        cache = seen(i, window, sinks)
        keys = rotated(k[:, :, cache], [float(n) for n in range(len(cache))])
        query = rotated(q[:, :, i : i + 1], [len(cache) - 1.0])
        rows.append((SCALE * query @ keys.transpose(-1, -2)).softmax(-1) @ v[:, :, cache])
    return torch.cat(rows, dim=2)


def by_distance(q: Tensor, k: Tensor, v: Tensor, window: int, sinks: int) -> Tensor:
    """LM-Infinite: tokens in sight at distances min(n, w)."""
    rows = []
    for i in range(q.size(2)):
        cache = seen(i, window, sinks)
        keys = rotated(k[:, :, cache], [-float(min(i - j, window)) for j in cache])
        rows.append((SCALE * q[:, :, i : i + 1] @ keys.transpose(-1, -2)).softmax(-1) @ v[:, :, cache])
    return torch.cat(rows, dim=2)


def out_of(layer: Encoding, q: Tensor, k: Tensor, v: Tensor, x: Tensor, shift: int = 0) -> Tensor:
    context = Context(Context.plain(x).index + shift)
    return attend_under(layer, q, k, v, x=x, context=context, scale=SCALE)


@pytest.mark.parametrize(("kind", "plain"), [(windows.StreamingLLM, by_cache), (windows.LMInfinite, by_distance)])
@settings(max_examples=15, deadline=None)
@given(window=st.integers(1, 12), sinks=st.integers(0, 5), length=st.integers(1, 25), shift=st.integers(0, 1000))
def test_rotated_sinks(kind: Any, plain: Any, window: int, sinks: int, length: int, shift: int) -> None:
    q, k, v, x = (t.requires_grad_() for t in draws(length))
    got = out_of(kind(LayerSpec(**SHAPE), window=window, sinks=sinks), q, k, v, x, shift)
    expected = plain(q, k, v, window, sinks)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    receive = torch.randn_like(got)
    found, wanted = (torch.autograd.grad((t * receive).sum(), [q, k, v]) for t in (got, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["lm-infinite", "streaming-llm"])
def test_within_the_window_it_is_rope(name: str) -> None:
    q, k, v, x = draws(20)
    layers = [encodings.create(n, **SHAPE, train_length=24) for n in (name, "rope")]
    torch.testing.assert_close(*(out_of(layer, q, k, v, x) for layer in layers), rtol=0, atol=1e-12)


def test_default_windows() -> None:
    """Those with sinks see as many tokens as in training; LM-Infinite's window is the training length by itself."""
    sizes = {"window": 64, "sinks": 60, "lm-infinite": 64, "streaming-llm": 60}
    assert {name: encodings.create(name, **SHAPE, train_length=64).window for name in sizes} == sizes
    short = encodings.create("sinks", **SHAPE, train_length=3)
    assert short.window == 1


def test_composition() -> None:
    """The mask goes around the bias of the others, wherever it stands in the name."""
    *_, x = draws(9)
    dense = encodings.create("alibi", **SHAPE).bias(x).dense()
    dense[..., torch.ones(9, 9).tril(-3).bool()] = float("-inf")
    for name in ("window+alibi", "alibi+window"):
        assert torch.equal(encodings.create(name, **SHAPE, window={"window": 3}).bias(x).dense(), dense)


@pytest.mark.parametrize("name", ["window+lm-infinite", "lm-infinite+window", "sinks+window", "window+stick-breaking"])
def test_two_limits_are_both_kept(name: str) -> None:
    *_, x = draws(12)
    options = {"window": {"window": 6}, "sinks": {"window": 4, "sinks": 2}, "lm-infinite": {"window": 4, "sinks": 2}}
    parts = name.split("+")
    layer = encodings.create(name, **SHAPE, **{part: options[part] for part in parts if part in options})
    limits = [(options[part]["window"], options[part].get("sinks", 0)) for part in parts if part in options]
    dense = layer.bias(x).dense()
    for i in range(12):
        expected = [j for j in range(12) if all(j in seen(i, *limit) for limit in limits)]
        assert dense[0, 0, i].isfinite().nonzero().flatten().tolist() == expected


@pytest.mark.parametrize(
    ("kind", "shape", "options", "cause"),
    [
        (windows.Window, {}, {"window": 0}, "encoding 'window': window must be at least 1, not 0"),
        (windows.Sinks, {}, {"sinks": -1}, "sinks must not be negative, not -1"),
        (windows.LMInfinite, {"head_dim": 5}, {}, "the head width must be even, not 5"),
    ],
)
def test_mistakes(kind: Any, shape: dict[str, int], options: dict[str, int], cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        kind(LayerSpec(**{**SHAPE, **shape}), **options)
