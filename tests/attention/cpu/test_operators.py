"""Operators in C++, each against PyTorch: one function of each, in one library for each precision."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from outcomes import draw
from torch import Tensor
from torch.fx import Graph

from extrapo.attention.cpu.library import library
from extrapo.attention.cpu.operators import EXPRESSIONS, POWERS, Lines, literal
from extrapo.attention.cpu.source import TYPES, read
from extrapo.attention.recorded.private import record
from extrapo.attention.recorded.statements import STRUCTURE, NoCounterpart

aten = torch.ops.aten

PAIRS = 501

#: Where an operator is defined for positive numbers alone, or for those around 0.
POSITIVE = {aten.log.default, aten.rsqrt.default, aten.sqrt.default, aten.pow.Tensor_Tensor, aten.log1p.default}

LOGICAL = {
    *(getattr(aten, f"logical_{name}").default for name in ("and", "or", "not")),
    *(aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_not.default),
}

Formula = Callable[..., Tensor]


def arguments(target: Any) -> list[str]:
    """What an operator is given: `t` a tensor, `n` a number, `b` one of truth values."""
    if target == aten.where.self:
        return ["b", "t", "t"]
    if target == aten.pow.Scalar:
        return ["n", "t"]
    kind = str(target).rsplit(".", 1)[-1]
    count = (EXPRESSIONS[target].replace("{0}", "", 1).count("{1}") and 2) or 1
    one = "b" if target in LOGICAL else "t"
    return [one, *(["n"] if kind == "Scalar" else [one])][:count]


def apply(target: Any) -> Formula:
    """An operator of x and y, both around 0 or both positive."""

    def function(x: Tensor, y: Tensor) -> Tensor:
        if target in POSITIVE:
            x = x.abs()
        tensors, truths, numbers = iter((x, y)), iter((x > 0, y > 0.3)), iter((1.7, 0.4))
        found = [next({"t": tensors, "b": truths, "n": numbers}[kind]) for kind in arguments(target)]
        options = {"dtype": x.dtype} if target == aten._to_copy.default else {}
        return target(*found, **options).to(x.dtype)  # type: ignore[no-any-return]

    return function


def rows(x: Tensor, y: Tensor) -> Tensor:
    """Three numbers of each pair."""
    return torch.stack([x, y, x * y])


#: Formulas that say what stands in the tables, one for each operator.
OPERATORS: dict[str, Formula] = {str(target): apply(target) for target in EXPRESSIONS}

OTHERS: dict[str, Formula] = {
    **{f"power {power}": lambda x, y, power=power: x.abs() ** power for power in (*POWERS, 1.3, -0.7)},
    **{f"whole power {n}": lambda x, y, n=n: x**n for n in (1, 2, 3)},
    "clamp": lambda x, y: x.clamp(-0.3, 0.4),
    "clamp below": lambda x, y: x.clamp_min(0.1) + y.clamp(min=-0.2),
    "clamp above": lambda x, y: x.clamp_max(0.1) + y.clamp(max=-0.2),
    "full": lambda x, y: x + torch.full_like(y, 2.5) + torch.zeros_like(y) + torch.ones(()),
    "where of a number": lambda x, y: torch.where(x > y, x, -math.inf).exp(),
    "where of numbers": lambda x, y: torch.where(x > y, 1.0, 0.5),
    "a number of its own": lambda x, y: x * torch.tensor(0.25),
    "stack, sum": lambda x, y: rows(x, y).sum(0),
    "stack, select": lambda x, y: rows(x, y)[2] - rows(x, y)[0],
    "stack, largest": lambda x, y: rows(x, y).amax(0),
    "logsumexp": lambda x, y: rows(x, y).logsumexp(0),
    "concatenated": lambda x, y: torch.cat([rows(x, y), rows(y, x)]).view(2, 3, -1).amax(0).sum(0),
    "unsqueezed": lambda x, y: (x.unsqueeze(0) * rows(x, y)).sum(0, keepdim=True).squeeze(0),
    "expanded": lambda x, y: (x.expand(4, 3, -1) * rows(x, y)).sum((0, 1)),
    "softplus": lambda x, y: torch.nn.functional.softplus(x) - torch.nn.functional.softplus(-y),
    "sigmoid and its like": lambda x, y: torch.nn.functional.silu(x) + torch.nn.functional.logsigmoid(y),
    "relu of a square": lambda x, y: x.relu().square() + torch.special.erf(y),
}

FORMULAS = {**OPERATORS, **OTHERS}


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, y = draw(PAIRS, seed=1, dtype=dtype), draw(PAIRS, seed=2, dtype=dtype)
    # Ties, zeros, and numbers of some size.
    x[:4], y[:4] = 0.0, torch.tensor([0.0, 1.0, -1.0, 0.5])
    x[4:9] = y[4:9]
    x[9:12] = torch.tensor([3.0, -7.0, 12.0])
    return x, y


@lru_cache
def recorded() -> Graph:
    """All formulas as one, which gives a number of each."""

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(formula(x, y) for formula in FORMULAS.values())

    return record(function, *inputs(torch.float64)).graph


@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_what_pytorch_computes(dtype: torch.dtype) -> None:
    lines = Lines()
    results = lines.run(recorded(), ["x[j]", "y[j]"])
    stores = "\n        ".join(f"out[{n} * length + j] = {name};" for n, name in enumerate(results))
    loop = f"""
typedef {TYPES[dtype]} real;
extern "C" void formulas(long length, const real *__restrict x, const real *__restrict y, real *__restrict out) {{
    for (long j = 0; j < length; ++j) {{
        {lines}
        {stores}
    }}
}}"""
    x, y = inputs(dtype)
    out = torch.full((len(FORMULAS), PAIRS), math.nan, dtype=dtype)
    found = library(read("fast_math.h") + loop)
    found.formulas(ctypes.c_long(PAIRS), *(ctypes.c_void_p(a.data_ptr()) for a in (x, y, out)))
    tolerance = 1e-13 if dtype == torch.float64 else 4e-6
    wrong = []
    for got, (name, formula) in zip(out, FORMULAS.items(), strict=True):
        expected = formula(x, y).expand_as(x).to(dtype)
        if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
            wrong.append((name, float((got - expected).abs().nan_to_num(math.inf).max())))
    assert not wrong


def test_every_operator_of_shapes_is_among_them() -> None:
    used = {node.target for node in recorded().nodes}
    assert set(STRUCTURE) <= used, set(STRUCTURE) - used


@pytest.mark.parametrize(
    ("formula", "why"),
    [
        (lambda x, y: x - x.mean(), "in a formula"),
        (lambda x, y: x * x.sum(), "pairs"),
        (lambda x, y: torch.cat([x, y])[:PAIRS], "in a formula"),
        (lambda x, y: torch.stack([x, y], -1).sum(-1), "in a formula"),
        (lambda x, y: x.cumsum(0), "in a formula"),
        (lambda x, y: torch.add(x, y, alpha=2), "in a formula"),
        (lambda x, y: torch.div(x, y, rounding_mode="floor"), "in a formula"),
        (lambda x, y: x * torch.arange(float(PAIRS)), "in a formula"),
        (lambda x, y: x * x.amax(), "pairs"),
        (lambda x, y: x.lgamma(), "lgamma"),
        (lambda x, y: rows(x, y).softmax(0)[0], "softmax"),
    ],
)
def test_what_has_no_counterpart_is_refused(formula: Formula, why: str) -> None:
    """Not computed wrongly: above all what reads other pairs."""
    graph = record(lambda x, y: (formula(x, y),), *inputs(torch.float64)).graph
    with pytest.raises(NoCounterpart, match=why):
        Lines().run(graph, ["x[j]", "y[j]"])


def test_numbers_keep_their_digits() -> None:
    numbers = (True, False, 1, 0.1, -2.5, 1e-30, math.inf, -math.inf, math.nan)
    texts = "true false real(1.0) real(0.1) real(-2.5) real(1e-30) INFINITY -INFINITY NAN"
    assert [literal(number) for number in numbers] == texts.split()
