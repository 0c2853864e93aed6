"""Tiles against the specification: any tile size, any split into past and new tokens, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import reference, tiles
from extrapo.attention.tiling import MAX_ROWS, MIN_ROWS, TILE_BYTES, rows_per_tile, spans
from extrapo.encodings import Bias, Context, DistanceBias, Encoding, NoBias

HEADS, HEAD_DIM, DIM = 2, 4, 8
SCALE = 1 / math.sqrt(HEAD_DIM)

NAMES = [*encodings.names(), "rope+k-cable", "rope+cable-weighted"]

Attention = Callable[[Tensor, Tensor, Tensor, Bias], Tensor]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str, dtype: torch.dtype = torch.float64) -> Encoding:
    """Parameters moved off their starting values, so that every term counts."""
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def decode(made: Encoding, attention: Attention, past: int, new: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Attention of the last `new` of past + new tokens, and the gradient of each input and parameter."""
    leaves = {"x": draw(2, past + new, DIM, seed=1).requires_grad_()}
    for seed, letter in enumerate("qkv", start=2):
        leaves[letter] = draw(2, HEADS, past + new, HEAD_DIM, seed=seed).requires_grad_()
    x, q, k, v = leaves["x"], leaves["q"], leaves["k"], leaves["v"]
    bias, carry, keys, values = None, None, [], []
    for begin, end in ((0, past), (past, past + new)):
        if begin == end:
            continue
        rows = slice(begin, end)
        turned = made.transform(
            q[:, :, rows],
            k[:, :, rows],
            v[:, :, rows],
            x=x[:, rows],
            context=Context.plain(x[:, rows], begin),
            carry=carry,
        )
        bias, carry = made.bias(x[:, rows], bias), turned.carry
        keys = [turned.k] if not keys else [torch.cat([*keys, turned.k], dim=2)]
        if end == past:
            keys = [bias.cached(keys[0])]
        values.append(turned.v)
    assert bias is not None
    out = attention(turned.q, torch.cat(keys, dim=2), torch.cat(values, dim=2), bias)
    leaves |= dict(made.named_parameters())
    receive = draw(*out.shape, seed=5)
    grads = torch.autograd.grad((out * receive).sum(), list(leaves.values()), allow_unused=True)
    found = zip(leaves.items(), grads, strict=True)
    return out, {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in found}


@pytest.mark.parametrize("name", NAMES)
@given(past=st.integers(0, 12), new=st.integers(1, 12), rows=st.integers(1, 13))
@example(past=0, new=7, rows=3)
@example(past=9, new=1, rows=4)
@example(past=5, new=6, rows=6)
@settings(max_examples=6, deadline=None)
def test_equals_the_reference(name: str, past: int, new: int, rows: int) -> None:
    made = layer(name)
    expected, wanted = decode(made, lambda q, k, v, bias: reference(q, k, v, bias, SCALE), past, new)
    got, grads = decode(made, lambda q, k, v, bias: tiles(q, k, v, bias, SCALE, rows=rows), past, new)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for leaf, grad in wanted.items():
        assert torch.allclose(grads[leaf], grad, rtol=1e-8, atol=1e-9), f"gradient of {leaf}"


@pytest.mark.parametrize("name", NAMES)
def test_the_last_rows_are_those_of_the_parallel_pass(name: str) -> None:
    made = layer(name)
    whole, _ = decode(made, lambda q, k, v, bias: reference(q, k, v, bias, SCALE), 0, 11)
    for past in (1, 6, 10):
        got, _ = decode(made, lambda q, k, v, bias: tiles(q, k, v, bias, SCALE, rows=2), past, 11 - past)
        torch.testing.assert_close(got, whole[:, :, past:], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["k-cable", "adaptive"])
def test_only_what_is_trained_gets_a_gradient(name: str) -> None:
    made = layer(name).requires_grad_(False)
    x, q = draw(1, 5, DIM), draw(1, HEADS, 5, HEAD_DIM)
    k = q.clone().requires_grad_()
    tiles(q, k, q, made.bias(x), SCALE, rows=2).sum().backward()  # type: ignore[no-untyped-call]
    assert k.grad is not None
    assert q.grad is None


@pytest.mark.parametrize("name", ["cable", "k-cable", "alibi", "nope", "adaptive"])
def test_bfloat16_stays_near_float32(name: str) -> None:
    """Off by at most 0.02 for outputs of size about 2: bfloat16 keeps 8 bits (measured: 0.004 to 0.008)."""
    made = layer(name, torch.float32)
    x = draw(1, 96, DIM, dtype=torch.float32)
    q, k, v = (draw(1, HEADS, 96, HEAD_DIM, seed=seed, dtype=torch.float32).bfloat16() for seed in (1, 2, 3))
    bias = made.bias(x)
    got = tiles(q, k, v, bias, SCALE, rows=32)
    assert got.dtype == torch.bfloat16
    exact = tiles(q.float(), k.float(), v.float(), bias, SCALE, rows=32)
    assert (got.float() - exact).abs().max() < 0.02


def test_bfloat16_inputs_do_not_round_the_positions() -> None:
    # At position 20,000 bfloat16 steps by 128: rounded positions would all but erase the near bias.
    bias = layer("alibi", torch.float32).bias(torch.zeros(1, 20_000, DIM))
    assert isinstance(bias, DistanceBias)
    past = replace(bias, queries=bias.queries[..., -8:])
    q, k = torch.zeros(1, HEADS, 8, HEAD_DIM), torch.zeros(1, HEADS, 20_000, HEAD_DIM)
    v = draw(1, HEADS, 20_000, HEAD_DIM, dtype=torch.float32)
    exact = tiles(q, k, v, past, SCALE)
    got = tiles(q.bfloat16(), k.bfloat16(), v.bfloat16(), past, SCALE)
    assert (got.float() - exact).abs().max() < 0.005


@pytest.mark.parametrize(
    "name", [name for name in NAMES if isinstance(layer(name).bias(draw(1, 2, DIM)), DistanceBias)]
)
@pytest.mark.parametrize("shift", [-3.0, 2.0**20, 1e9])
def test_a_shift_of_all_positions_changes_nothing(name: str, shift: float) -> None:
    bias = layer(name, torch.float32).bias(draw(1, 20, DIM, dtype=torch.float32))
    assert isinstance(bias, DistanceBias)
    moved = replace(bias, queries=bias.queries + shift, keys=bias.keys + shift)
    q, k, v = (draw(1, HEADS, 20, HEAD_DIM, seed=seed, dtype=torch.float32) for seed in (1, 2, 3))
    torch.testing.assert_close(tiles(q, k, v, moved, SCALE, rows=8), tiles(q, k, v, bias, SCALE, rows=8))


@given(queries=st.integers(1, 500), rows=st.integers(1, 130))
def test_spans_cover_every_row_once(queries: int, rows: int) -> None:
    covered = [row for span in spans(queries, rows) for row in range(span.start, span.stop)]
    assert covered == list(range(queries))


@given(queries=st.integers(1, 500), rows=st.integers(1, 130))
def test_only_the_first_tile_may_be_short(queries: int, rows: int) -> None:
    sizes = [span.stop - span.start for span in spans(queries, rows)]
    assert 1 <= sizes[0] <= rows
    assert set(sizes[1:]) <= {rows}


@pytest.mark.parametrize("name", ["k-cable", "kerple-log", "cable-weighted", "adaptive"])
def test_threads_change_nothing(name: str) -> None:
    """Three workers for seven tiles give the values and gradients of one, and leave the number of threads as it was."""
    made, threads, results = layer(name), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            out, grads = decode(made, lambda q, k, v, bias: tiles(q, k, v, bias, SCALE, rows=2), 0, 13)
            assert torch.get_num_threads() == count
            results.append([out, *grads.values()])
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_an_error_in_a_thread_is_raised() -> None:
    @dataclass(frozen=True)
    class Broken(NoBias):
        @property
        def additive(self) -> bool:
            return False

        def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
            raise ZeroDivisionError

    q, threads = draw(1, HEADS, 8, HEAD_DIM), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            tiles(q, q, q, Broken(HEADS, 8, 8, q.device), SCALE, rows=2)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [name for name in NAMES if layer(name).bias(draw(1, 3, DIM)).toeplitz()])
def test_a_bias_that_repeats_is_constant_on_diagonals(name: str) -> None:
    """What `toeplitz` claims, and that positions which are sampled do not claim it."""
    made, x = layer(name), draw(2, 9, DIM)
    tile = made.bias(x).tile(slice(0, 9))
    torch.testing.assert_close(tile[..., 1:, 1:], tile[..., :-1, :-1], rtol=0, atol=0)
    sampled = Context(torch.tensor([0.0, 1, 2, 3, 5, 6, 7, 8, 9], dtype=torch.float64).view(1, 1, 9))
    assert not made.bias(x, None, sampled).toeplitz()


def test_who_repeats() -> None:
    repeats = {name for name in NAMES if layer(name).bias(draw(1, 3, DIM)).toeplitz()}
    assert {"alibi", "kerple-log", "kerple-power"} <= repeats
    assert not {"cable", "k-cable", "cable-weighted", "nope"} & repeats


@given(batch_heads=st.integers(1, 512), keys=st.integers(1, 2**18), queries=st.integers(1, 2**18))
def test_a_tile_is_small(batch_heads: int, keys: int, queries: int) -> None:
    rows = rows_per_tile(batch_heads, keys, queries)
    assert MIN_ROWS <= rows <= MAX_ROWS
    assert rows == MIN_ROWS or 4 * batch_heads * keys * rows <= TILE_BYTES
