"""Compiled bodies against the specification: values and gradients, any sizes, whatever the threads do."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import reference, tiles
from extrapo.attention.cpu.codegen import described, on_diagonal, tile_back
from extrapo.attention.cpu.compiled_tiles import Compiled
from extrapo.attention.cpu.compiler import has_compiler
from extrapo.encodings import Bias, Context, Encoding
from extrapo.encodings.core.distance import DistanceFormula

HEADS, HEAD_DIM, DIM = 2, 4, 8
SCALE = 1 / math.sqrt(HEAD_DIM)

#: A clock, a gate with a kernel that has parameters, and a bias that is not only added.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "clock": ("k-cable", {}),
    "gate": ("cable-weighted", {"kernel": "log"}),
    "damped": ("adaptive", {"alpha_mode": "const"}),
}

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Encoding:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def outcome(made: Encoding, batch: int, length: int, *, dtype: torch.dtype, **how: Any) -> list[Tensor]:
    """Output and gradients of q, k, v, x and the parameters, by tiles; by the reference where nothing is said."""
    # Tokens before heads in memory, as a model's projections leave them.
    leaves = [draw(batch, length, HEADS, HEAD_DIM, seed=seed).transpose(1, 2) for seed in (1, 2, 3)]
    leaves.append(draw(batch, length, DIM, seed=4))
    q, k, v, x = (leaf.to(dtype).requires_grad_() for leaf in leaves)
    bias = made.bias(x, None, Context.plain(x))
    out = tiles(q, k, v, bias, SCALE, **how) if how else reference(q, k, v, bias, SCALE)
    receive = draw(*out.shape, seed=5).to(dtype)
    grads = torch.autograd.grad(out, [q, k, v, x, *made.parameters()], receive, allow_unused=True)
    return [out, *(torch.zeros(()) if grad is None else grad for grad in grads)]


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Any batch, one text among them, any length and tile, from one loop: values and gradients."""
    name, options = CASES[case]
    made = layer(name, **options)
    tile_back.cache_clear()
    for batch, length, rows in ((2, 21, 8), (3, 5, 2), (1, 12, 5), (1, 9, 8)):
        got = outcome(made, batch, length, dtype=torch.float64, rows=rows, compiled=True)
        for a, b in zip(got, outcome(made, batch, length, dtype=torch.float64), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert tile_back.cache_info().misses == 1
    assert "cannot be compiled" not in caplog.text


@needs_compiler
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heads", [1, 3, 4])
def test_a_few_heads_at_a_time_are_all_heads(case: str, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two texts of two heads, in calls of one head, of three and the rest, and of all."""
    name, options = CASES[case]
    made = layer(name, **options)
    expected = outcome(made, 2, 21, dtype=torch.float64)
    monkeypatch.setattr("extrapo.attention.cpu.compiled_tiles.heads_per_body", lambda rows, keys: heads)
    got = outcome(made, 2, 21, dtype=torch.float64, rows=8, compiled=True)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@needs_compiler
@pytest.mark.parametrize("case", ["clock", "alibi", "fire"])
def test_single_precision_is_as_good_as_it_can_be(case: str) -> None:
    """Logarithms and exponentials from bits, formula or none: 3e-5 of the largest number of each gradient.

    Measured: 1e-6, and 1.3e-5 for the threshold of `fire` (9e-6 with PyTorch's own exponentials).
    """
    name, options = CASES.get(case, (case, {}))
    made = layer(name, **options)
    exact = outcome(made, 2, 70, dtype=torch.float64)
    single = outcome(made.float(), 2, 70, dtype=torch.float32, rows=16, compiled=True)
    for a, b in zip(single, exact, strict=True):
        assert (a.double() - b).abs().max() <= 3e-5 * b.abs().max().clamp_min(1e-3)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_key_that_outweighs_the_own_by_any_number(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are measured from the query's own logit; where that overflows, the tile is made from its largest."""
    made = layer("k-cable", dtype=dtype)
    q, k, v = (draw(1, 24, HEADS, HEAD_DIM, seed=seed).transpose(1, 2).to(dtype) for seed in (1, 2, 3))
    k[:, :, 0], q[:, :, :6], q[:, :, 6:] = 3000.0, -q[:, :, :6].abs(), q[:, :, 6:].abs()
    again: list[int] = []
    plain = Compiled.from_the_largest

    def noted(self: Any, *given: Any) -> Tensor:
        again.append(1)
        return plain(self, *given)

    monkeypatch.setattr(Compiled, "from_the_largest", noted)
    results = []
    for path in (tiles, reference):
        leaves = [x.clone().requires_grad_() for x in (q, k, v, draw(1, 24, DIM, seed=4).to(dtype))]
        how = {"rows": 6, "compiled": True} if path is tiles else {}
        out = path(*leaves[:3], made.bias(leaves[3]), SCALE, **how)
        results.append([out, *torch.autograd.grad(out, leaves, draw(*out.shape, seed=5).to(dtype))])
    assert len(again) == 3, "the first of four tiles turns away from that key"
    # Logits of some thousands: what float32 keeps of them.
    bound = {torch.float64: 1e-9, torch.float32: 2e-3}[dtype]
    for got, expected in zip(*results, strict=True):
        assert (got - expected).abs().max() <= bound * expected.abs().max()


@needs_compiler
def test_every_run_is_the_same_whoever_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, one of them held up now and then: not one bit is another."""
    made, threads, results = layer("k-cable", dtype=torch.float32), torch.get_num_threads(), []
    plain = Compiled.back
    held_up: list[int | None] = []
    try:
        torch.set_num_threads(2)
        for late in (None, 3, 11):
            calls = itertools.count()

            def back(self: Any, *given: Any, late: int | None = late, calls: Any = calls) -> Any:
                if next(calls) == late:
                    held_up.append(late)
                    time.sleep(0.05)
                return plain(self, *given)

            monkeypatch.setattr(Compiled, "back", back)
            results.append(outcome(made, 2, 90, dtype=torch.float32, rows=4, compiled=True))
    finally:
        torch.set_num_threads(threads)
    assert held_up == [3, 11]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_compiler
def test_threads_change_nothing() -> None:
    made, threads, results = layer("k-cable"), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(outcome(made, 2, 21, dtype=torch.float64, rows=4, compiled=True))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def formulas() -> list[str]:
    """Names whose bias has a formula."""
    return [name for name in encodings.names() if layer(name).bias(draw(1, 3, DIM)).formula() is not None]


@pytest.mark.parametrize("name", [*formulas(), *CASES])
def test_the_formula_is_the_score(name: str) -> None:
    """What is compiled is what the encoding says its logits are."""
    name, options = CASES.get(name, (name, {}))
    made, x = layer(name, **options), draw(2, 9, DIM, seed=1)
    q, k = draw(2, HEADS, 9, HEAD_DIM, seed=2), draw(2, HEADS, 9, HEAD_DIM, seed=3)
    bias: Bias = made.bias(x, None, Context.plain(x)).given(q, k)
    formula = bias.formula()
    assert formula is not None
    assert formula.additive == bias.additive
    assert hash(formula) == hash(made.bias(x + 1, None, Context.plain(x)).formula())
    for rows in (slice(0, 9), slice(2, 5)):
        past = slice(0, rows.stop)
        content = SCALE * q[:, :, rows] @ k[:, :, past].transpose(-1, -2)
        logits = formula(content, *bias.factors(rows))
        torch.testing.assert_close(
            logits, bias.score(q[:, :, rows], k[:, :, past], SCALE, rows), rtol=1e-12, atol=1e-12
        )


def test_who_has_a_formula() -> None:
    assert {"nope", "alibi", "cable", "k-cable", "cable-weighted", "fox", "kerple-log"} <= {*formulas()}
    assert not {"fire", "t5", "cope", "path"} & {*formulas()}


def test_factors_are_described_by_where_they_vary() -> None:
    small = [torch.zeros(2, 3, 1), torch.zeros(2, 1, 5, dtype=torch.float64)]
    assert described(small) == ((torch.float32, True, False), (torch.float64, False, True))


def test_equal_formulas_are_one() -> None:
    def phi(z: Tensor) -> Tensor:
        return -z

    assert DistanceFormula(phi) == DistanceFormula(phi)
    assert DistanceFormula(phi) != DistanceFormula(phi, gated=True)


def test_a_factor_on_the_diagonal() -> None:
    """The last keys are the queries' own, one after the other."""
    column, row, one = torch.arange(5.0).view(1, 1, 5), torch.arange(3.0).view(1, 3, 1), torch.ones(2, 1, 1)
    by_key, by_row, by_none, along = ((torch.float32, r, s) for r, s in ((0, 1), (1, 0), (0, 0), (1, 1)))
    assert on_diagonal(column, by_key, 3).flatten().tolist() == [2, 3, 4]
    assert on_diagonal(column, by_key, 3).shape == row.shape
    assert on_diagonal(row, by_row, 3) is row
    assert on_diagonal(one, by_none, 3) is one
    # Distances 4, 3 ... 0 of the last query: its view's first row; the own key is at distance 0 for all.
    line = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -1.0]])
    assert on_diagonal(line.unfold(-1, 5, 1), along, 3).tolist() == [[[0.0]]]
