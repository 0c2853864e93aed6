"""Compiled tiles against the specification: values and gradients, any sizes, whatever the threads do."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend, backend, force_compile
from extrapo.attention.cpu.codegen import tile_backward
from extrapo.attention.cpu.compiled_tiles import CompiledWorker
from extrapo.encodings import Encoding

HEADS, HEAD_DIM, DIM = 2, 4, 8
SCALE = 1 / math.sqrt(HEAD_DIM)

#: Contextual positions, a gate with a kernel that has parameters, and a bias that is not only added.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "contextual": ("k-cable", {}),
    "gate": ("cable-weighted", {"kernel": "log"}),
    "damped": ("adaptive", {"alpha_mode": "const"}),
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cpp_compiler")]


@pytest.fixture(autouse=True)
def everything_is_compiled() -> Iterator[None]:
    with force_compile():
        yield


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Encoding:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def outcome(made: Encoding, batch: int, length: int, dtype: torch.dtype, impl: str) -> list[Tensor]:
    """Output and gradients of q, k, v, x and the parameters."""
    # Tokens before heads in memory, as a model's projections leave them.
    leaves = [draw(batch, length, HEADS, HEAD_DIM, seed=seed).transpose(1, 2) for seed in (1, 2, 3)]
    leaves.append(draw(batch, length, DIM, seed=4))
    q, k, v, x = (leaf.to(dtype).requires_grad_() for leaf in leaves)
    encoded = made.encode(q, k, v, x=x)
    out = attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=SCALE, impl=impl)
    receive = draw(*out.shape, seed=5).to(dtype)
    grads = torch.autograd.grad(out, [q, k, v, x, *made.parameters()], receive, allow_unused=True)
    return [out, *(torch.zeros(()) if grad is None else grad for grad in grads)]


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, tile_rows: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Any batch, one text among them, any length and tile, from one loop: values and gradients."""
    name, options = CASES[case]
    made = layer(name, **options)
    tile_backward.cache_clear()
    for batch, length, rows in ((2, 21, 8), (3, 5, 2), (1, 13, 4), (1, 9, 8)):
        with tile_rows(rows):
            got = outcome(made, batch, length, torch.float64, "cpu-tiles")
        for a, b in zip(got, outcome(made, batch, length, torch.float64, "reference"), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert tile_backward.cache_info().misses == 1
    assert "cannot be compiled" not in caplog.text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heads", [1, 3, 4])
def test_a_few_heads_at_a_time_are_all_heads(
    case: str, heads: int, tile_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two texts of two heads, in calls of one head, of three and the rest, and of all."""
    name, options = CASES[case]
    made = layer(name, **options)
    expected = outcome(made, 2, 21, torch.float64, "reference")
    monkeypatch.setattr("extrapo.attention.cpu.compiled_tiles.heads_per_call", lambda rows, keys: heads)
    with tile_rows(8):
        got = outcome(made, 2, 21, torch.float64, "cpu-tiles")
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", ["contextual", "alibi", "fire"])
def test_single_precision_is_as_good_as_it_can_be(case: str, tile_rows: Any) -> None:
    """Logarithms and exponentials from bits, formula or none: 3e-5 of the largest number of each gradient.

    Measured: 1e-6, and 1.3e-5 for the threshold of `fire` (9e-6 with PyTorch's own exponentials).
    """
    name, options = CASES.get(case, (case, {}))
    made = layer(name, **options)
    exact = outcome(made, 2, 70, torch.float64, "reference")
    with tile_rows(16):
        single = outcome(made.float(), 2, 70, torch.float32, "cpu-tiles")
    for a, b in zip(single, exact, strict=True):
        assert (a.double() - b).abs().max() <= 3e-5 * b.abs().max().clamp_min(1e-3)


@pytest.mark.parametrize("case", ["contextual", "damped"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_key_that_outweighs_the_own_by_any_number(
    case: str, dtype: torch.dtype, tile_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are measured from the query's own logit; where that overflows, the tile is made from its largest."""
    name, options = CASES[case]
    made = layer(name, dtype, **options)
    x = draw(1, 24, DIM, seed=4).to(dtype)
    q, k, v = (draw(1, HEADS, 24, HEAD_DIM, seed=seed).to(dtype) for seed in (1, 2, 3))
    k[:, :, 0], q[:, :, :8], q[:, :, 8:] = 3000.0, -q[:, :, :8].abs(), q[:, :, 8:].abs()
    again: list[int] = []
    plain = CompiledWorker.from_the_largest

    def noted(self: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        again.append(1)
        return plain(self, *inputs)

    monkeypatch.setattr(CompiledWorker, "from_the_largest", noted)
    results = []
    for impl in ("cpu-tiles", "reference"):
        # What the transform makes of q and k is left out: it is their direction that counts.
        leaves = [leaf.clone().requires_grad_() for leaf in (q, k, v, x)]
        bias = made.bias(leaves[3]).bind(leaves[0], leaves[1])
        with tile_rows(8):
            out = backend(impl)(*leaves[:3], bias, scale=SCALE)
            grads = torch.autograd.grad(out, leaves, draw(*out.shape, seed=5).to(dtype), allow_unused=True)
        results.append([out, *(torch.zeros(()) if grad is None else grad for grad in grads)])
    assert len(again) == 2, "the first of three tiles turns away from that key"
    # Logits of some thousands: what float32 keeps of them.
    bound = {torch.float64: 1e-9, torch.float32: 2e-3}[dtype]
    for got, expected in zip(*results, strict=True):
        assert (got - expected).abs().max() <= bound * expected.abs().max()


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_every_run_is_the_same_whoever_is_first(tile_rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, one of them held up now and then: not one bit is another."""
    made, results = layer("k-cable", torch.float32), []
    plain = CompiledWorker.backward
    held_up: list[int | None] = []
    with with_threads(2), tile_rows(4):
        for late in (None, 3, 11):
            calls = itertools.count()

            def backward(self: Any, *inputs: Any, late: int | None = late, calls: Any = calls) -> Any:
                if next(calls) == late:
                    held_up.append(late)
                    time.sleep(0.05)
                return plain(self, *inputs)

            monkeypatch.setattr(CompiledWorker, "backward", backward)
            results.append(outcome(made, 2, 90, torch.float32, "cpu-tiles"))
    assert held_up == [3, 11]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_change_nothing(tile_rows: Any) -> None:
    made, results = layer("k-cable"), []
    for count in (1, 2):
        with with_threads(count), tile_rows(4):
            results.append(outcome(made, 2, 21, torch.float64, "cpu-tiles"))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
