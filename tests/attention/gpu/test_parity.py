"""The generated kernels are the plain formula: in Triton's interpreter, every kernel, shapes, windows, precision."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from exact import distances, doubled, errors, outcome, trained
from outcomes import assert_near, draw, encoded_outcome, layer
from test_lines import TILES as LINES

from extrapo.attention import backend
from extrapo.encodings import Visibility
from extrapo.encodings.core.distance import Order
from extrapo.encodings.core.hosted import Limited
from extrapo.kernels import names

pytestmark = pytest.mark.usefixtures("interpreter")

#: Of the largest value, in float32.
BOUND = 2e-6

#: Those of mixing weights are small differences: what the three of a pair get adds up to what the softmax leaves, 0.
BOUNDS = {"mix-prob": 5e-5}

#: Kernels whose gates are tried in every run; those of the others, in the long one.
GATED = ("linear", "cauchy-log", "log")

CASES = [
    pytest.param(name, order, marks=() if order is None or name in GATED else pytest.mark.chaos)
    for name in names()
    if name not in LINES
    for order in (None, "after_gate", "before_gate")
]


@pytest.mark.parametrize(("name", "order"), CASES)
def test_every_kernel_without_a_gate_and_in_both_orders(name: str, order: Order | None) -> None:
    found = errors(distances(name, queries=18, keys=18, order=order))
    assert max(found.values()) <= BOUNDS.get(name, BOUND), found


@pytest.mark.parametrize(
    ("queries", "keys", "width", "values", "batch", "heads", "group"),
    [
        (2, 2, 4, 4, 1, 1, 1),
        (16, 16, 16, 16, 2, 2, 1),
        (33, 50, 16, 16, 1, 2, 1),
        (5, 40, 24, 8, 1, 2, 2),
        (40, 40, 40, 16, 2, 4, 2),
        (17, 17, 128, 128, 1, 1, 1),
        (17, 20, 256, 32, 1, 1, 1),
    ],
)
def test_shapes(queries: int, keys: int, width: int, values: int, batch: int, heads: int, group: int) -> None:
    """Texts that no block divides, fewer queries than keys, widths that are no power of two, heads that share keys."""
    bias = distances("cauchy-log", heads=heads, queries=queries, keys=keys, batch=batch, order="after_gate")
    found = errors(bias, width=width, values=values, batch=batch, group=group)
    # A product of so many numbers is rounded as often.
    assert max(found.values()) <= BOUND * max(1, width / 64), found


WINDOWS = [
    Visibility(1),
    Visibility(7, 2),
    Visibility(16),
    Visibility(20, 17),
    Visibility(33, 1),
    Visibility(1000, 3),
    Visibility(25, 0, Visibility(9, 20)),
]


@pytest.mark.parametrize("seen", WINDOWS, ids=str)
@pytest.mark.parametrize("past", [0, 13])
def test_windows_and_sinks(seen: Visibility, past: int) -> None:
    """Also one within the other; rows that see nothing of their first block."""
    bias = Limited(distances("log", heads=1, queries=53, keys=53 + past), seen)
    found = errors(bias, by_terms=True)
    # Where one key is seen, the gradient of a score is 0: what is left is the rounding of two products.
    assert max(found.values()) <= BOUND * (4 if seen.window == 1 else 1), found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "order"), [("linear", None), ("cauchy-log", None), ("log", "after_gate")])
def test_half_precision_leaves_clocks_and_gates_their_digits(
    dtype: torch.dtype, name: str, order: Order | None
) -> None:
    """Weights and their gradients are rounded where they are multiplied, and nowhere else."""
    found = errors(distances(name, queries=40, keys=40, order=order), dtype=dtype)
    of_tensors = {key: value for key, value in found.items() if key in ("output", "q", "k", "v")}
    others = {key: value for key, value in found.items() if key not in of_tensors}
    assert max(others.values()) <= 1e-5, found
    assert max(of_tensors.values()) <= 4 * torch.finfo(dtype).eps, found


def test_far_out_a_distance_keeps_its_digits() -> None:
    """At 10^7 float32 steps by 1."""
    near = distances("cauchy-log", queries=24, keys=24)
    far = replace(near, queries=near.queries + 1e7, keys=near.keys + 1e7)
    found = errors(far)
    # A float64 at 10^7 steps by 2e-9.
    assert max(found.values()) <= BOUND, found


def test_a_tokens_position_is_that_of_a_query_and_of_a_key() -> None:
    """As a model has it, where the two are one tensor: its gradient is one sum."""
    apart = distances("cauchy-log", queries=40, keys=40, batch=2, order="after_gate")
    together = [trained(replace(apart, queries=apart.keys)) for _ in range(2)]
    q, k, v = draw(3, 2, 2, 40, 16, dtype=torch.float32).unbind(0)
    found = []
    for bias, impl in zip((together[0], doubled(together[1])), ("triton", "reference"), strict=True):
        leaf = bias.keys.detach().requires_grad_()
        bias = replace(bias, queries=leaf, keys=leaf)
        out = backend(impl)(*(x.to(bias.dtype) for x in (q, k, v)), bias, scale=0.3)
        found.append(torch.autograd.grad(out, leaf, q.to(out.dtype))[0])
    assert found[0].dtype == torch.float64
    # A difference of two sums.
    torch.testing.assert_close(*found, rtol=0, atol=2 * BOUND * float(found[1].abs().max()))


def test_some_trained_and_some_not() -> None:
    bias = distances("log", queries=20, keys=20, order="after_gate")
    q, k, v = draw(3, 1, 2, 20, 16, dtype=torch.float32).unbind(0)
    whole = outcome(trained(bias), "triton", q, k, v.requires_grad_(), q)
    for chosen in ([0], [2, 4], [1, 3]):
        tensors = [t.detach().requires_grad_(n in chosen) for n, t in enumerate(bias.tensors())]
        part = outcome(bias.rebuilt(tensors), "triton", q, k, v, q)
        assert set(part) == {"output", "v", *(f"field {n}" for n in chosen)}
        for name, x in part.items():
            torch.testing.assert_close(x, whole[name], rtol=0, atol=0)


def test_what_moves_all_logits_of_a_row_alike_gets_no_gradient() -> None:
    """Under a linear kernel, a query's own position: nothing is added up, and nothing is left of rounding."""
    bias = trained(distances("linear", queries=20, keys=20))
    q, k, v = (draw(1, 2, 20, 16, seed=n, dtype=torch.float32).requires_grad_() for n in range(3))
    found = outcome(bias, "triton", q, k, v, q.detach())
    assert not found["field 0"].any()
    assert found["field 1"].any()


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_what_all_values_share_moves_no_weight(seed: int) -> None:
    """A row's gradients add up to 0, however large what is taken from each of them, and however far its weights, from a
    rounded logarithm of their sum, are from adding up to 1.
    """
    bias = trained(distances("linear", heads=1, queries=40, keys=40))
    q, k, v = (draw(1, 1, 40, 16, seed=seed + n, dtype=torch.float32) for n in range(3))
    found = outcome(bias, "triton", 3 * q, k, v + 10, q)["field 1"]
    assert float(found.sum().abs()) <= 5e-7 * float(found.abs().sum())


def test_it_is_the_same_to_the_bit() -> None:
    bias = distances("student", queries=40, keys=40)
    q, k, v = (draw(1, 2, 40, 16, seed=n, dtype=torch.float32).requires_grad_() for n in range(3))
    first, second = (outcome(trained(bias), "triton", q, k, v, q.detach()) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "name",
    ["nope", "alibi", "cable", "cable-nw", "fox", "grape-a-key", "grape-a-query", "adaptive", "kerple-weight", "bam"],
)
def test_schemes(name: str) -> None:
    """As a layer has them, the end of a text included; those that multiply the score too."""
    options = {"alpha_mode": "const"} if name == "adaptive" else {}
    made = layer(name, **options)
    expected = encoded_outcome(made, "reference", 19, 6)
    found = encoded_outcome(made.float(), "triton", 19, 6, dtype=torch.float32)
    assert found
    assert_near(found, expected, 2e-5)


def test_a_row_is_weighed_by_all_that_it_sees() -> None:
    """One query among equal keys, at distances 0, 1, 2, ..."""
    bias = distances("linear", heads=1, queries=3, keys=20)
    positions = torch.arange(20.0, dtype=torch.float64).view(1, 1, 20)
    bias = replace(bias, queries=positions[..., 17:], keys=positions)
    q = torch.zeros(1, 1, 3, 16)
    v = torch.eye(20, 16).view(1, 1, 20, 16)
    out = backend("triton")(q, torch.zeros(1, 1, 20, 16), v, bias, scale=1.0)
    total = sum(math.exp(-n) for n in range(20))
    assert float(out[0, 0, 2, 15]) == pytest.approx(math.exp(-4) / total, rel=1e-5)
