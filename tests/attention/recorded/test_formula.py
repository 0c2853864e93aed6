"""Recorded formulas: run as they are, they give a logit and its derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from outcomes import DIM, HEAD_DIM, HEADS, draw, layer
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from extrapo.attention.recorded.formula import record_formula
from extrapo.encodings import Elementwise, Logit
from extrapo.encodings.core.turned import TurnedRows

PAIRS = 31

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nope": ("nope", {}),
    "cable": ("cable", {}),
    "k-cable": ("k-cable", {}),
    "gate": ("cable-weighted", {"kernel": "log"}),
    "mixture": ("cable", {"kernel": "mix-prob"}),
    "damped": ("adaptive", {"alpha_mode": "const"}),
}


def logit_of(case: str) -> tuple[Logit, int]:
    """The formula, and how many factors it has."""
    name, options = CASES[case]
    q = draw(1, HEADS, 5, HEAD_DIM)
    bias = layer(name, **options).encode(q, q, q, x=draw(1, 5, DIM)).bias
    bias = bias.host if isinstance(bias, TurnedRows) else bias
    assert isinstance(bias, Elementwise)
    return bias.logit, len(bias.factors(slice(0, 1)))


def run(graph: Graph, *inputs: Tensor) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = GraphModule(graph.owning_module or {}, graph)(*inputs)
    return found


def numbers(count: int) -> list[Tensor]:
    """Positive, as gates and parameters are; the first of them, positions of queries, the largest."""
    return [draw(PAIRS, seed=n).abs() + 0.1 + (3 if n == 1 else 0) for n in range(count)]


@pytest.mark.parametrize("case", CASES)
def test_terms_are_the_logit(case: str) -> None:
    """a - ln b - ..., of any number of pairs."""
    logit, count = logit_of(case)
    formula = record_formula(logit, torch.float64, (True,) * count)
    inputs = numbers(1 + count)
    first, *divisors = run(formula.terms, *inputs)
    for divisor in divisors:
        first = first - divisor.log()
    torch.testing.assert_close(first.expand(PAIRS), logit(*inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_autograds(case: str) -> None:
    """Whatever is trained, all, nothing or some: of the score, and of each trained factor in its order."""
    logit, count = logit_of(case)
    for trained in {(True,) * count, (False,) * count, tuple(n % 2 == 1 for n in range(count))}:
        formula = record_formula(logit, torch.float64, trained)
        score, *factors = (x.requires_grad_() for x in numbers(1 + count))
        g = draw(PAIRS, seed=9)
        wanted = [score, *(f for f, t in zip(factors, trained, strict=True) if t)]
        expected = torch.autograd.grad(logit(score, *factors), wanted, g, allow_unused=True)
        with torch.no_grad():
            got = run(formula.gradients, score, *factors, g)
        assert len(got) == len(wanted)
        for one, other in zip(got, expected, strict=True):
            other = torch.zeros(()) if other is None else other
            torch.testing.assert_close(one.expand(PAIRS), other.expand(PAIRS).double(), rtol=1e-10, atol=1e-10)


def test_a_logarithm_is_taken_apart_where_a_kernel_has_one() -> None:
    """As e^-ln(1 + b^2) is 1 / (1 + b^2)."""

    def operators(graph: Graph) -> set[str]:
        return {str(node.target) for node in graph.nodes if isinstance(node, Node) and node.op == "call_function"}

    logit, count = logit_of("k-cable")
    formula = record_formula(logit, torch.float64, (True,) * count)
    (output,) = (node for node in formula.terms.nodes if node.op == "output")
    assert len(output.args[0]) == 2
    assert not operators(formula.terms) & {"aten.log.default", "aten.log1p.default"}


@dataclass(frozen=True)
class Fails(Logit):
    """As somebody may write it."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        raise ZeroDivisionError


def test_what_a_formula_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        record_formula(Fails(), torch.float32, ())
