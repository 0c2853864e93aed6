"""Compiled attention against the specification: every formula, any sizes and layouts, whatever the threads do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from outcomes import DIM, HEAD_DIM, HEADS, SCALE, assert_near, draw, encoded_outcome, gradients, layer, outcome, threads
from torch import Tensor

from extrapo import encodings, kernels
from extrapo.attention import attend, backend
from extrapo.attention.cpu import compiled_attention
from extrapo.attention.cpu.parallel import parallel_for
from extrapo.encodings import DistanceBias, Elementwise, Logit, Visibility
from extrapo.encodings.core.hosted import Limited
from extrapo.testing import gradient_bound

pytestmark = pytest.mark.usefixtures("cpp_compiler")

#: Every formula that the package has.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in encodings.names()},
    **{f"cable {name}": ("cable", {"kernel": name}) for name in kernels.names()},
    "window+k-cable": ("window+k-cable", {"window": {"window": 9}}),
    "adaptive ema": ("adaptive", {"alpha_mode": "ema"}),
    "adaptive const": ("adaptive", {"alpha_mode": "const"}),
    "adaptive one theta": ("adaptive", {"theta": 0.1}),
    "adaptive no temperature": ("adaptive", {"temperature": False}),
    "adaptive log kernel": ("adaptive", {"kernel": "log"}),
}

#: One of each way that scores and factors come to a loop: numbers of tokens, a gate of queries, lines, turns, a window.
WAYS = ["nope", "k-cable", "cable-weighted", "alibi", "kerple-log", "adaptive", "window+k-cable"]

#: Of them it is known that it serves; the rest own their logits, or have a number of each pair.
SERVED = {*WAYS, *(case for case in CASES if case.startswith("adaptive")), "cable", "fox", "rope", "t5", "kerple-log"}


def made(case: str, dtype: torch.dtype = torch.float64) -> encodings.Encoding:
    name, options = CASES[case]
    return layer(name, dtype, **options)


def bias_of(case: str, length: int, dtype: torch.dtype = torch.float64) -> Any:
    """A bias without what its scheme does to q and k."""
    x = draw(1, length, DIM, seed=3, dtype=dtype)
    q = draw(1, HEADS, length, HEAD_DIM, dtype=dtype)
    return made(case, dtype).bias(x).bind(q, q)


LONG = {"adaptive no temperature", *(f"cable {name}" for name in kernels.names())}


def slow_if_long(case: str) -> Any:
    """A kernel's own formula takes a compiler some seconds, in both precisions."""
    return pytest.param(case, marks=pytest.mark.slow if case in LONG else ())


@pytest.mark.parametrize("case", [slow_if_long(case) for case in CASES])
def test_values_and_gradients_are_the_reference(case: str) -> None:
    """To the last digits in double precision; in single precision gradients within 1e-4, or what a scheme says."""
    got = encoded_outcome(made(case), "cpu-fused", 70)
    if not got:
        assert case not in SERVED
        return
    expected = encoded_outcome(made(case), "reference", 70)
    assert_near(got, expected, 1e-10)
    single = encoded_outcome(made(case, torch.float32), "cpu-fused", 70, dtype=torch.float32)
    assert all(x.dtype == torch.float32 for x in single.values())
    assert_near(single, expected, gradient_bound(made(case).exemptions().get("float32_gradients", "within 1e-4")))


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", WAYS)
@given(past=st.integers(0, 150), new=st.integers(2, 150), batch=st.integers(1, 3))
@example(past=0, new=2, batch=1)
@example(past=0, new=64, batch=1)
@example(past=1, new=128, batch=2)
@example(past=470, new=90, batch=1)
@example(past=1100, new=3, batch=1)
@settings(max_examples=8, deadline=None)
def test_any_part_of_a_text(case: str, past: int, new: int, batch: int) -> None:
    """Full tiles and others, blocks of keys and more than one."""
    got, expected = (encoded_outcome(made(case), impl, new, past, batch=batch) for impl in ("cpu-fused", "reference"))
    assert_near(got, expected, 1e-10)


@given(window=st.integers(1, 700), sinks=st.integers(0, 600), new=st.integers(2, 140), past=st.integers(0, 600))
@example(window=1, sinks=0, new=70, past=0)
@example(window=100, sinks=90, new=130, past=0)
@example(window=3, sinks=520, new=66, past=600)
@example(window=520, sinks=5, new=140, past=600)
@settings(max_examples=12, deadline=None)
def test_windows_and_sinks(window: int, sinks: int, new: int, past: int) -> None:
    """Narrower than a tile, wider than a block of keys, sinks that reach into the window."""
    whole = bias_of("kerple-log", past + new)
    bias = Limited(replace(whole, queries=whole.queries[..., past:]), Visibility(window, sinks))
    found = []
    for impl in ("cpu-fused", "reference"):
        q = draw(1, HEADS, new, HEAD_DIM).requires_grad_()
        k, v = (draw(1, HEADS, past + new, HEAD_DIM, seed=n).requires_grad_() for n in (1, 2))
        found.append(outcome(bias, impl, q, k, v))
    assert_near(*found, 1e-10)


@pytest.mark.parametrize("case", ["nope", "alibi"])
@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0)])
def test_nothing_at_all(case: str, batch: int, length: int) -> None:
    q, k, v = (draw(batch, HEADS, length, HEAD_DIM, seed=n).requires_grad_() for n in range(3))
    found = outcome(bias_of(case, length), "cpu-fused", q, k, v)
    assert found["output"].shape == found["q"].shape == (batch, HEADS, length, HEAD_DIM)


@dataclass(frozen=True)
class Mixed(Logit):
    """A number of each kind, in terms that do not come apart."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        number, row, column = factors
        return score * (number * row).sigmoid() + (row * column).tanh() * number


@dataclass(frozen=True)
class MixedBias(Elementwise):
    """Factors of any batch and heads: (B or 1, H or 1, 1, 1), (..., T, 1), (..., 1, S)."""

    number: Tensor
    row: Tensor
    column: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, self.row.size(2), self.column.size(3)

    @property
    def logit(self) -> Logit:
        return Mixed()

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        last = self.column.size(3) - self.row.size(2) + rows.stop
        return self.number, self.row[:, :, rows], self.column[..., :last]


@given(
    sizes=st.lists(st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, HEADS])), min_size=3, max_size=3),
    new=st.integers(2, 140), past=st.integers(0, 30), values=st.integers(1, 9),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_factors_of_any_batch_and_heads(sizes: list[tuple[int, int]], new: int, past: int, values: int) -> None:
    """... whose gradients are summed to their sizes; values of another width than keys."""
    found = []
    for impl in ("cpu-fused", "reference"):
        ends = ((1, 1), (new, 1), (1, past + new))
        shapes = [(*size, *end) for size, end in zip(sizes, ends, strict=True)]
        bias = MixedBias(*(draw(*shape, seed=7 + n).requires_grad_() for n, shape in enumerate(shapes)))
        q = draw(3, HEADS, new, HEAD_DIM).requires_grad_()
        k, v = (draw(3, HEADS, past + new, width, seed=width).requires_grad_() for width in (HEAD_DIM, values))
        found.append(outcome(bias, impl, q, k, v))
    assert_near(*found, 1e-10)


# -- layouts ---------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "tokens first": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "width not last": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "part of a wider one": lambda x: torch.cat([x, x], -1)[..., : x.size(-1)],
    "every other number": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other token": lambda x: x.repeat_interleave(2, -2)[..., ::2, :],
    "one head for all": lambda x: x[:, :1].expand_as(x),
    "one text for all": lambda x: x[:1].expand_as(x),
    "one token for all": lambda x: x[:, :, :1].expand_as(x),
    "tokens that overlap": lambda x: (
        x.flatten(2).contiguous()[..., : x.size(2) + x.size(3) - 1].unfold(-1, x.size(3), 1)
    ),
}


@pytest.mark.parametrize("case", ["alibi", "adaptive"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_memory(case: str, layout: str) -> None:
    bias, found = bias_of(case, 70), []
    for impl in ("cpu-fused", "reference"):
        q, k, v = (LAYOUTS[layout](draw(2, HEADS, 70, HEAD_DIM, seed=n)).requires_grad_() for n in range(3))
        found.append(outcome(bias, impl, q, k, v))
    assert_near(*found, 1e-10)


@pytest.mark.parametrize("case", ["alibi", "adaptive"])
@pytest.mark.parametrize("dims", [(0, 1, 2, 3), (2,), (3,), (1,)])
def test_any_layout_of_what_comes_back(case: str, dims: tuple[int, ...]) -> None:
    """A sum gives one number to all that it is of: a mean over tokens, for one, has a gradient of stride 0."""
    bias, found = bias_of(case, 70), []
    for impl in ("cpu-fused", "reference"):
        leaves = {letter: draw(2, HEADS, 70, HEAD_DIM, seed=n).requires_grad_() for n, letter in enumerate("qkv")}
        out = backend(impl)(*leaves.values(), bias, scale=SCALE)
        found.append(gradients(out.square().sum(dims) if dims == (3,) else out.sum(dims), leaves))
    assert_near(*found, 1e-10)


# -- what is trained -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["k-cable", "adaptive"])
def test_only_what_is_trained_gets_a_gradient(case: str) -> None:
    made_of, x = made(case).requires_grad_(False), draw(1, 70, DIM)
    q, k = draw(1, HEADS, 70, HEAD_DIM), draw(1, HEADS, 70, HEAD_DIM, seed=1).requires_grad_()
    backend("cpu-fused")(q, k, q, made_of.bias(x), scale=SCALE).sum().backward()  # type: ignore[no-untyped-call]
    assert k.grad is not None
    assert q.grad is None


@pytest.mark.parametrize("case", ["alibi", "adaptive"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(case: str, mode: Any) -> None:
    with mode():
        q, bias = draw(1, HEADS, 70, HEAD_DIM), bias_of(case, 70)
        got, expected = (backend(impl)(q, q, q, bias, scale=SCALE) for impl in ("cpu-fused", "reference"))
    assert not got.requires_grad
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_a_second_derivative_is_refused() -> None:
    q = draw(1, HEADS, 9, HEAD_DIM).requires_grad_()
    out = backend("cpu-fused")(q, q, q, bias_of("alibi", 9), scale=SCALE)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(torch.autograd.grad(out.sum(), q, create_graph=True)[0].square().sum(), q)


# -- numbers far out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["k-cable", "alibi", "adaptive"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_key_that_outweighs_the_own_by_any_number(case: str, dtype: torch.dtype) -> None:
    """Weights are measured from the query's own logit; where that overflows, from the largest of the row."""
    found = []
    q, k, v = (draw(1, HEADS, 140, HEAD_DIM, seed=n) for n in range(3))
    # Queries turn towards the first key from the 70th on; before, away from it.
    k[:, :, 0], q[:, :, :70], q[:, :, 70:] = 3000.0, -q[:, :, :70].abs(), q[:, :, 70:].abs()
    if case == "adaptive":
        # Only one of two planes, and that of long waves: the other one turns on the way.
        k[:, :, 0, ::2] = 0.0
    for impl, of in (("cpu-fused", dtype), ("reference", torch.float64)):
        leaves = [x.to(of).requires_grad_() for x in (q, k, v)]
        found.append(outcome(bias_of(case, 140, of), impl, *leaves))
    logits = SCALE * q.detach() @ k.detach().mT
    exponent = logits[:, :, 70:, 0] - logits.diagonal(dim1=-2, dim2=-1)[:, :, 70:]
    assert exponent.max() > 710, "e^ of it is infinite"
    # Logits of some thousands: what float32 keeps of them.
    assert_near(*found, {torch.float64: 1e-9, torch.float32: 2e-3}[dtype])


@dataclass(frozen=True)
class HidingOwn(Logit):
    """The one factor is the query's place: it sees none of the odd keys, itself among them."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        (hides,) = factors
        return torch.where(hides > 0, -math.inf, score)


@dataclass(frozen=True)
class HidingBias(Elementwise):
    """Some keys are hidden from all queries."""

    hides: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, self.hides.numel(), self.hides.numel()

    @property
    def logit(self) -> Logit:
        return HidingOwn()

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return (self.hides.view(1, 1, 1, -1)[..., : rows.stop],)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_query_whose_own_key_is_hidden(dtype: torch.dtype) -> None:
    """Its own logit is -inf, from which nothing can be measured."""
    hides, found = (torch.arange(100) % 3 == 1).to(dtype), []
    for impl in ("cpu-fused", "reference"):
        q, k, v = (draw(1, HEADS, 100, HEAD_DIM, seed=n, dtype=dtype).requires_grad_() for n in range(3))
        found.append(outcome(HidingBias(hides), impl, q, k, v))
    assert_near(*found, 1e-10 if dtype == torch.float64 else 1e-5)
    assert (found[0]["k"][:, :, 1::3] == 0).all(), "not a little"


@pytest.mark.parametrize("case", ["alibi", "adaptive"])
def test_a_nan_reaches_those_who_see_it(case: str) -> None:
    q, k, v = (draw(1, HEADS, 140, HEAD_DIM, seed=n, dtype=torch.float32) for n in range(3))
    k[:, :, 90] = math.nan
    bias = bias_of(case, 140, torch.float32)
    got, expected = (backend(impl)(q, k, v, bias, scale=SCALE) for impl in ("cpu-fused", "reference"))
    assert got[:, :, 90:].isnan().all()
    torch.testing.assert_close(got[:, :, :90], expected[:, :, :90])


@pytest.mark.parametrize("case", ["alibi", "kerple-log", "cable", "k-cable", "cable-weighted"])
@pytest.mark.parametrize("shift", [-3.0, 2.0**20, 1e9])
def test_a_shift_of_all_positions_changes_nothing(case: str, shift: float) -> None:
    bias = bias_of(case, 70, torch.float32)
    assert isinstance(bias, DistanceBias)
    moved = replace(bias, queries=bias.queries + shift, keys=bias.keys + shift)
    q, k, v = (draw(1, HEADS, 70, HEAD_DIM, seed=n, dtype=torch.float32) for n in range(3))
    got, expected = (backend("cpu-fused")(q, k, v, of, scale=SCALE) for of in (moved, bias))
    torch.testing.assert_close(got, expected)


# -- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("case", ["cable", "k-cable", "alibi", "nope", "adaptive"])
def test_half_precision_is_that_of_inputs_and_results(case: str, dtype: torch.dtype, bound: float) -> None:
    """Between them all is in single precision: what is left is one rounding."""
    leaves = [draw(1, HEADS, 140, HEAD_DIM, seed=n, dtype=dtype) for n in range(3)]
    bias = bias_of(case, 140, torch.float32)
    got, exact = (
        outcome(bias, "cpu-fused", *(x.to(of).requires_grad_() for x in leaves)) for of in (dtype, torch.float32)
    )
    assert {name: x.dtype for name, x in got.items() if name in ("output", *"qkv")} == dict.fromkeys(
        ("output", *"qkv"), dtype
    )
    # The gradient of the output is rounded as well, which that of scores takes a small difference of.
    for name in got:
        assert_near({name: got[name]}, {name: exact[name]}, bound if name == "output" else 8 * bound)


def test_half_precision_does_not_round_the_positions() -> None:
    # At position 20,000 bfloat16 steps by 128: rounded positions would all but erase the near bias.
    whole = bias_of("alibi", 20_000, torch.float32)
    past = replace(whole, queries=whole.queries[..., -8:])
    q, k = torch.zeros(1, HEADS, 8, HEAD_DIM), torch.zeros(1, HEADS, 20_000, HEAD_DIM)
    v = draw(1, HEADS, 20_000, HEAD_DIM, dtype=torch.float32)
    exact = backend("cpu-fused")(q, k, v, past, scale=SCALE)
    got = backend("cpu-fused")(q.bfloat16(), k.bfloat16(), v.bfloat16(), past, scale=SCALE)
    assert (got.float() - exact).abs().max() < 0.005


def test_under_autocast() -> None:
    """All as without it, given the same inputs in half precision."""
    bias = bias_of("k-cable", 70, torch.float32)
    q, k, v = (draw(1, HEADS, 70, HEAD_DIM, seed=n, dtype=torch.bfloat16) for n in range(3))
    expected = outcome(bias, "cpu-fused", *(x.clone().requires_grad_() for x in (q, k, v)))
    with torch.autocast("cpu", torch.bfloat16):
        got = outcome(bias, "cpu-fused", *(x.clone().requires_grad_() for x in (q, k, v)))
    assert all(torch.equal(got[name], expected[name]) for name in expected)


# -- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", WAYS)
def test_every_run_is_the_same_whoever_is_first(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, one of them held up: not one bit is another."""
    found = []
    with threads(2):
        for late in (None, 0, 1):

            def held_up(work: Callable[[int], None], workers: int, late: int | None = late) -> None:
                def one(worker: int) -> None:
                    if worker == late:
                        time.sleep(0.02)
                    work(worker)

                parallel_for(one, workers)

            monkeypatch.setattr(compiled_attention, "parallel_for", held_up)
            found.append(encoded_outcome(made(case, torch.float32), "cpu-fused", 400, dtype=torch.float32))
    for other in found[1:]:
        assert all(torch.equal(x, other[name]) for name, x in found[0].items())


@pytest.mark.parametrize("case", WAYS)
def test_threads_change_nothing(case: str) -> None:
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(encoded_outcome(made(case), "cpu-fused", 400))
            assert torch.get_num_threads() == count
    assert_near(found[1], found[0], 1e-12)
    assert_near(found[2], found[0], 1e-12)


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        """A library whose functions fail."""

        def attention_forward(self, task: object) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(compiled_attention, "functions", lambda *_: Broken())
    q = draw(1, HEADS, 200, HEAD_DIM)
    with threads(2), pytest.raises(ZeroDivisionError):
        attend(q, q, q, bias_of("alibi", 200), scale=SCALE, impl="cpu-fused")
