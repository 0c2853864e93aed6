"""Operators: what PyTorch does to the numbers of a pair, in C++."""

from __future__ import annotations

import math
from typing import Any

import torch

from extrapo.attention.recorded.statements import Statements

aten = torch.ops.aten

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}

#: Operators of numbers, as expressions.
EXPRESSIONS: dict[Any, str] = {
    aten.neg.default: "-{0}",
    aten.reciprocal.default: "1 / {0}",
    aten.exp.default: "exponential({0})",
    aten.log.default: "logarithm({0})",
    aten.log1p.default: "logarithm_of_one_plus({0})",
    aten.pow.Tensor_Tensor: "power_of({0}, {1})",
    aten.pow.Scalar: "power_of({0}, {1})",
    aten.rsqrt.default: "1 / std::sqrt({0})",
    aten.sigmoid.default: "1 / (1 + exponential(-{0}))",
    aten.relu.default: "{0} > 0 ? {0} : 0",
    aten.sign.default: "real(({0} > 0) - ({0} < 0))",
    aten.maximum.default: "{0} > {1} ? {0} : {1}",
    aten.minimum.default: "{0} < {1} ? {0} : {1}",
    aten.where.self: "{0} ? {1} : {2}",
    aten.logical_and.default: "{0} && {1}",
    aten.logical_or.default: "{0} || {1}",
    aten.logical_not.default: "!{0}",
    aten.bitwise_and.Tensor: "{0} && {1}",
    aten.bitwise_or.Tensor: "{0} || {1}",
    aten.bitwise_not.default: "!{0}",
    aten.clone.default: "{0}",
    aten.alias.default: "{0}",
    aten.detach.default: "{0}",
    aten.lift_fresh_copy.default: "{0}",
    aten._to_copy.default: "{0}",
}
for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "div": "/", **COMPARISONS}.items():
    EXPRESSIONS |= {getattr(getattr(aten, _name), kind): f"{{0}} {_sign} {{1}}" for kind in ("Tensor", "Scalar")}
for _name in (
    "sqrt",
    "abs",
    "expm1",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sinh",
    "cosh",
    "atan",
    "asinh",
    "erf",
    "erfc",
    "floor",
):
    EXPRESSIONS[getattr(aten, _name).default] = f"std::{_name}({{0}})"

#: Powers that need no logarithm.
POWERS = {
    0.5: "std::sqrt({0})",
    1.0: "{0}",
    2.0: "{0} * {0}",
    3.0: "{0} * {0} * {0}",
    -0.5: "1 / std::sqrt({0})",
    -1.0: "1 / {0}",
}


class Lines(Statements):
    """Statements of C++, each of which gives one number a name."""

    expressions = EXPRESSIONS
    powers = POWERS
    power = "power_of({0}, {1})"
    larger = "({0} < {1} ? {1} : {0})"
    smaller = "({0} > {1} ? {1} : {0})"

    def __str__(self) -> str:
        return "\n        ".join(self.statements)

    def literal(self, x: float | bool) -> str:
        return literal(x)

    def statement(self, name: str, truth: bool, expression: str) -> str:
        return f"const {'bool' if truth else 'real'} {name} = {expression};"


def literal(x: float | bool) -> str:
    """A number of C++."""
    if isinstance(x, bool):
        return "true" if x else "false"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    return "NAN" if math.isnan(x) else f"real({float(x)!r})"
