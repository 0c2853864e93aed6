"""Expressions: what PyTorch does to the numbers of a pair, in Triton."""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from extrapo.attention.recorded.statements import Statements

aten = torch.ops.aten

#: Operators of numbers. Names without a dot are those of `primitives`.
EXPRESSIONS: dict[Any, str] = {
    aten.neg.default: "-{0}",
    aten.reciprocal.default: "inverse({0})",
    aten.exp.default: "exp({0})",
    aten.expm1.default: "exp({0}) - 1.0",
    aten.log.default: "log({0})",
    # What is lost of a small argument is 6e-8 of a logit; its derivative does not come this way.
    aten.log1p.default: "log(1.0 + {0})",
    aten.pow.Tensor_Tensor: "power({0}, {1})",
    aten.pow.Scalar: "power({0}, {1})",
    aten.sqrt.default: "tl.sqrt({0})",
    aten.rsqrt.default: "tl.rsqrt({0})",
    aten.sigmoid.default: "inverse(1.0 + exp(-{0}))",
    aten.tanh.default: "1.0 - 2.0 * inverse(1.0 + exp(2.0 * {0}))",
    aten.sinh.default: "0.5 * (exp({0}) - exp(-{0}))",
    aten.cosh.default: "0.5 * (exp({0}) + exp(-{0}))",
    aten.asinh.default: "sign({0}) * log(tl.abs({0}) + tl.sqrt({0} * {0} + 1.0))",
    aten.sin.default: "tl.sin({0})",
    aten.cos.default: "tl.cos({0})",
    aten.tan.default: "tl.sin({0}) * inverse(tl.cos({0}))",
    aten.erf.default: "tl.erf({0})",
    aten.erfc.default: "1.0 - tl.erf({0})",
    aten.abs.default: "tl.abs({0})",
    aten.floor.default: "tl.floor({0})",
    aten.relu.default: "tl.maximum({0}, 0.0)",
    aten.sign.default: "sign({0})",
    aten.maximum.default: "tl.maximum({0}, {1})",
    aten.minimum.default: "tl.minimum({0}, {1})",
    aten.where.self: "tl.where({0}, {1}, {2})",
    aten.logical_and.default: "{0} & {1}",
    aten.logical_or.default: "{0} | {1}",
    aten.logical_not.default: "{0} == 0",
    aten.bitwise_and.Tensor: "{0} & {1}",
    aten.bitwise_or.Tensor: "{0} | {1}",
    aten.bitwise_not.default: "{0} == 0",
    aten.clone.default: "{0}",
    aten.alias.default: "{0}",
    aten.detach.default: "{0}",
    aten.lift_fresh_copy.default: "{0}",
    aten._to_copy.default: "{0}",
}
SIGNS = {"add": "+", "sub": "-", "mul": "*", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=="}
for _name, _sign in {**SIGNS, "ne": "!="}.items():
    EXPRESSIONS |= {getattr(getattr(aten, _name), kind): f"{{0}} {_sign} {{1}}" for kind in ("Tensor", "Scalar")}
# Two quotients of one divisor share its reciprocal.
EXPRESSIONS |= {getattr(aten.div, kind): "{0} * inverse({1})" for kind in ("Tensor", "Scalar")}

#: Powers that need no logarithm.
POWERS = {
    0.5: "tl.sqrt({0})",
    1.0: "{0}",
    2.0: "{0} * {0}",
    3.0: "{0} * {0} * {0}",
    -0.5: "tl.rsqrt({0})",
    -1.0: "inverse({0})",
}

#: The reciprocal of a number, which is another one.
OF_NUMBER = re.compile(r"inverse\(\(?(-?[0-9.e+-]+)\)?\)")

#: What is one of its operands.
UNCHANGED = re.compile(r"1\.0 \* (\w+)|(\w+) \* 1\.0|(\w+)")


class Expressions(Statements):
    """Statements of Triton, each of which gives the numbers of a tile one name, and each value has one."""

    def __init__(self, prefix: str = "x") -> None:
        super().__init__(prefix)
        self.names: dict[str, str] = {}

    def named(self, name: str, truth: bool, expression: str) -> str:
        expression = OF_NUMBER.sub(lambda found: literal(1 / float(found[1])), expression)
        if (same := UNCHANGED.fullmatch(expression)) is not None:
            return next(part for part in same.groups() if part is not None)
        if expression not in self.names:
            self.names[expression] = super().named(name, truth, expression)
        return self.names[expression]

    expressions = EXPRESSIONS
    powers = POWERS
    power = "power({0}, {1})"
    larger = "tl.maximum({0}, {1})"
    smaller = "tl.minimum({0}, {1})"

    def literal(self, x: float | bool) -> str:
        return str(x) if isinstance(x, bool) else literal(x)

    def statement(self, name: str, truth: bool, expression: str) -> str:
        return f"{name} = {expression}"


class Precise(Expressions):
    """The same, of numbers that a text adds up: small ones keep their digits."""

    expressions = EXPRESSIONS | {
        aten.log.default: "tl.log({0})",
        aten.log1p.default: "log1p({0})",
        aten.reciprocal.default: "1.0 / {0}",
        aten.div.Tensor: "{0} / {1}",
        aten.div.Scalar: "{0} / {1}",
    }


def literal(x: float) -> str:
    """A number of Triton; in brackets, for it may be negative."""
    if math.isfinite(x):
        return repr(float(x)) if x >= 0 else f"({float(x)!r})"
    return f"float('{float(x)!r}')"
