"""A logarithm under an exponential: e^(a - ln b) = e^a / b, and neither is computed.

Kernels that fall as a power of the distance add a logarithm to the logits, which the softmax takes back: of the numbers
of a tile that is a third of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from extrapo.attention.recorded.private import record

aten = torch.ops.aten

#: Logarithms, and what is added to their argument.
LOGARITHMS: dict[Any, int] = {aten.log.default: 0, aten.log1p.default: 1}

#: Sums, and which of their terms are added.
SIGNS = {aten.add.Tensor: (True, True), aten.sub.Tensor: (True, False), aten.neg.default: (False,)}


def rewrite_exp_log(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """A function that gives (a, b, ...) where `function` gives a - ln b - ...: its last sum, taken apart.

    Args:
        function: of tensors like `inputs`; where its result is not such a sum, it is a, and all there is.
        inputs: examples, of any sizes.
    """
    module = record(function, *inputs)
    output = next(iter(reversed(module.graph.nodes)))
    (result,) = output.all_input_nodes
    parts = terms(result, positive=True)
    logarithms = [node for node, positive in parts if is_divisor(node, positive=positive)]
    rest = [(node, positive) for node, positive in parts if not is_divisor(node, positive=positive)]
    if not logarithms or not rest:
        return lambda *inputs: (function(*inputs),)
    with module.graph.inserting_before(output):
        outputs = [total(module.graph, rest), *(argument(module.graph, node) for node in logarithms)]
    output.args = (tuple(outputs),)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def terms(node: Node, *, positive: bool) -> list[tuple[Node, bool]]:
    """The terms of a sum, and whether they are added or taken away."""
    if node.target not in SIGNS or node.kwargs or not all(isinstance(part, Node) for part in node.args):
        return [(node, positive)]
    pairs: Any = zip(node.args, SIGNS[node.target], strict=True)
    return [term for part, same in pairs for term in terms(part, positive=positive == same)]


def is_divisor(term: Node, *, positive: bool) -> bool:
    """Whether a term is a logarithm that is taken away. One that is added may be that of 0, and its factor infinite."""
    return not positive and term.target in LOGARITHMS


def total(graph: Graph, parts: list[tuple[Node, bool]]) -> Node:
    """The sum of terms; those that are added come first."""
    (first, positive), *others = sorted(parts, key=lambda part: not part[1])
    whole = first if positive else graph.call_function(aten.neg.default, (first,))
    for node, positive in others:
        whole = graph.call_function(aten.add.Tensor if positive else aten.sub.Tensor, (whole, node))
    return whole


def argument(graph: Graph, logarithm: Node) -> Node:
    """What a logarithm is taken of."""
    (inside,) = logarithm.all_input_nodes
    added = LOGARITHMS[logarithm.target]
    return graph.call_function(aten.add.Tensor, (inside, added)) if added else inside
