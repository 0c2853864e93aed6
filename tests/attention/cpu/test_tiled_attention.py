"""Attention by tiles against the specification, step by step: any tile, any part of a text, with gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.attention.cpu.compiled_tiles import CompiledTiles
from extrapo.attention.cpu.tile_steps import GraphTiles, TileMethod, ToeplitzTiles
from extrapo.attention.cpu.tiled_attention import tile_method
from extrapo.attention.cpu.toeplitz import LineFactors
from extrapo.encodings import Context, DistanceBias, Elementwise, Encoding

HEADS, HEAD_DIM, DIM = 2, 4, 8
SCALE = 1 / math.sqrt(HEAD_DIM)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Encoding:
    """Parameters moved off their starting values, so that every term counts."""
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


NAMES = [*encodings.names(), "rope+k-cable", "rope+cable-weighted", "window+alibi", "window+k-cable"]


def decode(made: Encoding, impl: str, past: int, new: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Attention of the last `new` of past + new tokens, and the gradient of each input and parameter."""
    leaves = {"x": draw(2, past + new, DIM, seed=1).requires_grad_()}
    for seed, letter in enumerate("qkv", start=2):
        leaves[letter] = draw(2, HEADS, past + new, HEAD_DIM, seed=seed).requires_grad_()
    state = None
    for begin, end in ((0, past), (past, past + new)):
        if begin == end:
            continue
        q, k, v = (leaves[letter][:, :, begin:end] for letter in "qkv")
        encoded = made.encode(q, k, v, x=leaves["x"][:, begin:end], state=state)
        state = encoded.state
    out = attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=SCALE, impl=impl)
    leaves |= dict(made.named_parameters())
    receive = draw(*out.shape, seed=5)
    grads = torch.autograd.grad((out * receive).sum(), list(leaves.values()), allow_unused=True)
    found = zip(leaves.items(), grads, strict=True)
    return out, {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in found}


@pytest.mark.parametrize("name", NAMES)
@given(past=st.integers(0, 12), new=st.integers(2, 12), rows=st.sampled_from([1, 2, 4, 8]))
@example(past=0, new=7, rows=2)
@example(past=9, new=2, rows=4)
@example(past=5, new=6, rows=8)
@settings(max_examples=6, deadline=None)
def test_equals_the_reference(name: str, past: int, new: int, rows: int, tile_rows: Any) -> None:
    made = layer(name)
    expected, wanted = decode(made, "reference", past, new)
    with tile_rows(rows):
        got, grads = decode(made, "cpu-tiles", past, new)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for leaf, grad in wanted.items():
        assert torch.allclose(grads[leaf], grad, rtol=1e-8, atol=1e-9), f"gradient of {leaf}"


@pytest.mark.parametrize("name", ["k-cable", "adaptive"])
def test_only_what_is_trained_gets_a_gradient(name: str, tile_rows: Any) -> None:
    made = layer(name).requires_grad_(False)
    x, q = draw(1, 5, DIM), draw(1, HEADS, 5, HEAD_DIM)
    k = q.clone().requires_grad_()
    with tile_rows(2):
        attend(q, k, q, made.bias(x).bind(q, k), scale=SCALE, impl="cpu-tiles").sum().backward()  # type: ignore[no-untyped-call]
    assert k.grad is not None
    assert q.grad is None


@pytest.mark.parametrize("name", ["cable", "k-cable", "alibi", "nope", "adaptive"])
def test_bfloat16_stays_near_float32(name: str, tile_rows: Any) -> None:
    """Off by at most 0.02 for outputs of size about 2: bfloat16 keeps 8 bits (measured: 0.004 to 0.008)."""
    made = layer(name, torch.float32)
    x = draw(1, 96, DIM, dtype=torch.float32)
    q, k, v = (draw(1, HEADS, 96, HEAD_DIM, seed=seed, dtype=torch.float32).bfloat16() for seed in (1, 2, 3))
    bias = made.bias(x).bind(q, k)
    with tile_rows(32):
        got = attend(q, k, v, bias, scale=SCALE, impl="cpu-tiles")
        exact = attend(q.float(), k.float(), v.float(), bias, scale=SCALE, impl="cpu-tiles")
    assert got.dtype == torch.bfloat16
    assert (got.float() - exact).abs().max() < 0.02


def test_bfloat16_inputs_do_not_round_the_positions() -> None:
    # At position 20,000 bfloat16 steps by 128: rounded positions would all but erase the near bias.
    bias = layer("alibi", torch.float32).bias(torch.zeros(1, 20_000, DIM))
    assert isinstance(bias, DistanceBias)
    past = replace(bias, queries=bias.queries[..., -8:])
    q, k = torch.zeros(1, HEADS, 8, HEAD_DIM), torch.zeros(1, HEADS, 20_000, HEAD_DIM)
    v = draw(1, HEADS, 20_000, HEAD_DIM, dtype=torch.float32)
    exact = attend(q, k, v, past, scale=SCALE, impl="cpu-tiles")
    got = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), past, scale=SCALE, impl="cpu-tiles")
    assert (got.float() - exact).abs().max() < 0.005


@pytest.mark.parametrize("name", ["alibi", "kerple-log", "cable", "k-cable", "cable-weighted"])
@pytest.mark.parametrize("shift", [-3.0, 2.0**20, 1e9])
def test_a_shift_of_all_positions_changes_nothing(name: str, shift: float, tile_rows: Any) -> None:
    bias = layer(name, torch.float32).bias(draw(1, 20, DIM, dtype=torch.float32))
    assert isinstance(bias, DistanceBias)
    moved = replace(bias, queries=bias.queries + shift, keys=bias.keys + shift)
    q, k, v = (draw(1, HEADS, 20, HEAD_DIM, seed=seed, dtype=torch.float32) for seed in (1, 2, 3))
    with tile_rows(8):
        got, expected = (attend(q, k, v, of, scale=SCALE, impl="cpu-tiles") for of in (moved, bias))
    torch.testing.assert_close(got, expected)


def elementwise(name: str, **options: Any) -> Elementwise:
    q = draw(1, HEADS, 12, HEAD_DIM)
    bias = layer(name, **options).encode(q, q, q, x=draw(1, 12, DIM)).bias
    assert isinstance(bias, Elementwise)
    return bias


TOEPLITZ = ["alibi", "kerple-log", "kerple-power", "kerple-weight", "adaptive const"]


@pytest.mark.parametrize("name", TOEPLITZ)
def test_a_bias_that_repeats_is_constant_on_diagonals(name: str) -> None:
    """What `toeplitz` claims, and that positions which are sampled do not claim it."""
    scheme, options = ("adaptive", {"alpha_mode": "const"}) if name == "adaptive const" else (name, {})
    made = layer(scheme, **options)
    bias = made.bias(draw(2, 9, DIM))
    assert isinstance(bias, Elementwise)
    assert bias.toeplitz()
    logits = bias.logit(torch.ones(1, 1, 9, 9, dtype=torch.float64), *bias.factors(slice(0, 9)))
    seen = torch.ones(8, 8, dtype=torch.bool).tril()
    torch.testing.assert_close(logits[..., 1:, 1:][..., seen], logits[..., :-1, :-1][..., seen], rtol=0, atol=0)
    sampled = Context(torch.tensor([0.0, 1, 2, 3, 5, 6, 7, 8, 9], dtype=torch.float64).view(1, 1, 9))
    apart = made.bias(draw(2, 9, DIM), None, sampled)
    assert isinstance(apart, Elementwise)
    assert not apart.toeplitz()


@pytest.mark.parametrize("name", ["cable", "k-cable", "cable-weighted", "nope"])
def test_who_does_not_repeat(name: str) -> None:
    assert not elementwise(name).toeplitz()


@pytest.mark.parametrize(
    ("name", "options", "plain"),
    [
        ("nope", {}, GraphTiles),
        ("k-cable", {}, GraphTiles),
        ("alibi", {}, ToeplitzTiles),
        ("adaptive", {"alpha_mode": "const"}, GraphTiles),
        ("fire", {}, GraphTiles),
        ("window", {}, GraphTiles),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_the_way_step_by_step(name: str, options: dict[str, Any], plain: type[TileMethod], backward: bool) -> None:
    assert type(method(elementwise(name, **options), compiled=False, backward=backward)) is plain


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize(
    ("name", "options", "compiled"),
    [
        ("nope", {}, CompiledTiles),
        ("k-cable", {}, CompiledTiles),
        ("alibi", {}, ToeplitzTiles),
        ("adaptive", {"alpha_mode": "const"}, CompiledTiles),
        ("fire", {}, GraphTiles),
        ("window", {}, GraphTiles),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_the_way_with_a_compiler(
    name: str, options: dict[str, Any], compiled: type[TileMethod], backward: bool
) -> None:
    found = method(elementwise(name, **options), compiled=True, backward=backward)
    assert type(found) is compiled
    if isinstance(found, CompiledTiles):
        assert isinstance(found.factors, LineFactors) == (name == "adaptive")


def method(bias: Elementwise, *, compiled: bool, backward: bool) -> TileMethod:
    q = draw(1, HEADS, 12, HEAD_DIM)
    leaves = [t.detach().requires_grad_(t.requires_grad and backward) for t in bias.tensors()]
    return tile_method(bias, leaves, q, q, compiled=compiled, backward=backward)
