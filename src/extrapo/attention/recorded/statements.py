"""Statements: what PyTorch does to tensors, as statements of another language about the numbers of one pair.

A tensor's last dimension is that of the pairs, of which a statement sees one; what it has before that are so many
numbers, and stacking, picking and adding them up is done here, by their names.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.fx import Graph, Node

aten = torch.ops.aten

#: Names of the numbers of one pair, (..., 1), or of numbers that all pairs have, ().
Names = np.ndarray[Any, Any]


class NoCounterpart(Exception):
    """An operation that the language has no expression for here, in one line."""


class Statements(ABC):
    """Statements, each of which gives one number a name.

    Args:
        prefix: what names begin with.
    """

    #: operators of numbers, as expressions; powers that need no logarithm, and others.
    expressions: ClassVar[Mapping[Any, str]]
    powers: ClassVar[Mapping[float, str]]
    power: ClassVar[str]
    #: the larger and the smaller of two; a sum.
    larger: ClassVar[str]
    smaller: ClassVar[str]
    added: ClassVar[str] = "{0} + {1}"

    def __init__(self, prefix: str = "x") -> None:
        self.prefix = prefix
        self.statements: list[str] = []

    @abstractmethod
    def literal(self, x: float | bool) -> str:
        """A number."""

    @abstractmethod
    def statement(self, name: str, truth: bool, expression: str) -> str:
        """What gives a number, or a truth value, its name."""

    def named(self, name: str, truth: bool, expression: str) -> str:
        """The name of a value, which a new statement may give it."""
        self.statements.append(self.statement(name, truth, expression))
        return name

    def run(self, graph: Graph, inputs: Sequence[str]) -> list[str]:
        """The names of what a graph gives.

        Args:
            graph: of tensors with one dimension.
            inputs: the names of what it takes.

        Raises:
            NoCounterpart: an operation that has no counterpart here.
        """
        names: dict[Node, Names] = {}
        rest = iter(inputs)
        for node in graph.nodes:
            if node.op == "placeholder":
                names[node] = np.array([next(rest)], dtype=object)
            elif node.op == "get_attr":
                names[node] = np.array(self.literal(constant(graph, node)), dtype=object)
            elif node.op == "call_function":
                names[node] = self.call(node, names)
            elif node.op == "output":
                return [names[result].reshape(()).item() for result in node.args[0]]
        raise NoCounterpart("a formula without a result")

    def call(self, node: Node, names: dict[Node, Names]) -> Names:
        """The names of one operation's numbers."""
        target, value = node.target, node.meta["val"]
        args: list[Any] = [names[x] if isinstance(x, Node) else x for x in node.args]
        if target in STRUCTURE:
            return STRUCTURE[target](self, value, *[own(x, names) for x in node.args])
        if target in (aten.full.default, aten.full_like.default, aten.scalar_tensor.default):
            return np.array(self.literal(args[1 if target != aten.scalar_tensor.default else 0]), dtype=object)
        if target == aten.pow.Tensor_Scalar:
            expression = self.powers.get(float(args[1]), self.power)
        elif target == aten.clamp.default:
            low, high = (*args[1:], None)[:2]
            args, expression = [args[0]], "{0}"
            if low is not None:
                expression = self.larger.format(f"({expression})", self.literal(low))
            if high is not None:
                expression = self.smaller.format(f"({expression})", self.literal(high))
        elif target in self.expressions and not node.kwargs.get("alpha") and not node.kwargs.get("rounding_mode"):
            expression = self.expressions[target]
        else:
            raise NoCounterpart(f"{target} in a formula")
        operands = [x if isinstance(x, np.ndarray) else np.array(self.literal(x), dtype=object) for x in args]
        return self.each(expression, value.dtype == torch.bool, *operands)

    def each(self, expression: str, truth: bool, *operands: Names) -> Names:
        """The expression for each of the numbers, which broadcast."""
        broadcast = np.broadcast_arrays(*operands)
        result = np.empty(broadcast[0].shape, dtype=object)
        for index in np.ndindex(result.shape):
            name = f"{self.prefix}{len(self.statements)}"
            result[index] = self.named(name, truth, expression.format(*(x[index] for x in broadcast)))
        return result

    def reduce(self, expression: str, x: Names, dims: Sequence[int], keep: bool) -> Names:
        """Over dimensions that are not that of the pairs; none given are all."""
        for dim in sorted((d % x.ndim for d in dims or range(x.ndim)), reverse=True):
            if dim == x.ndim - 1:
                raise NoCounterpart("a sum over pairs in a formula")
            first, *others = np.moveaxis(x, dim, 0)
            for other in others:
                first = self.each(expression, False, np.asarray(first), np.asarray(other))
            x = np.expand_dims(first, dim) if keep else np.asarray(first)
        return x


def own(x: Any, names: dict[Node, Names]) -> Any:
    """An argument, or those of a list, by name."""
    if isinstance(x, Node):
        return names[x]
    return [own(one, names) for one in x] if isinstance(x, list | tuple) else x


def sizes(value: Tensor) -> list[int]:
    """Of the numbers of one pair."""
    return [*value.shape[:-1], 1] if value.dim() else []


def beside(value: Tensor, parts: Sequence[Names], dim: int) -> Names:
    """Numbers side by side, in a dimension that is not that of the pairs."""
    if dim % value.dim() == value.dim() - 1:
        raise NoCounterpart("pairs side by side in a formula")
    return np.concatenate(parts, axis=dim)


#: Operators of shapes: (lines, the result as a tensor, arguments) -> names.
STRUCTURE: dict[Any, Callable[..., Names]] = {
    aten.view.default: lambda _, value, x, *rest: (
        np.broadcast_to(x, sizes(value)) if x.ndim == 0 else x.reshape(sizes(value))
    ),
    aten.expand.default: lambda _, value, x, *rest: np.broadcast_to(x, sizes(value)),
    aten.unsqueeze.default: lambda _, value, x, dim: np.expand_dims(x, dim),
    aten.squeeze.dims: lambda _, value, x, dims: x.reshape(sizes(value)),
    aten.select.int: lambda _, value, x, dim, index: np.asarray(np.take(x, index, axis=dim)),
    aten.stack.default: lambda _, value, parts, dim=0: beside(
        value, [np.expand_dims(part, dim) for part in parts], dim
    ),
    aten.cat.default: lambda _, value, parts, dim=0: beside(value, parts, dim),
    aten.sum.dim_IntList: lambda lines, value, x, dims, keep=False: lines.reduce(lines.added, x, dims, keep),
    aten.amax.default: lambda lines, value, x, dims=(), keep=False: lines.reduce(lines.larger, x, dims, keep),
}


def constant(graph: Graph, node: Node) -> float:
    """A number that a formula has of its own."""
    value = operator.attrgetter(str(node.target))(graph.owning_module)
    if value.numel() != 1:
        raise NoCounterpart("a table in a formula")
    return float(value)
