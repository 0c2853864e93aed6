"""What the generated kernels give beside the plain formula in float64, of the same numbers."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import torch
from outcomes import draw
from torch import Tensor

from extrapo.attention import backend
from extrapo.encodings.adaptive import DampedBias, StretchedRows
from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.distance import DistanceBias, Order, distance_bias
from extrapo.encodings.core.relative import Counted
from extrapo.encodings.core.turned import turned_rows
from extrapo.kernels import create
from extrapo.kernels.base import Kernel


def kernel(name: str, heads: int, **options: Any) -> Kernel:
    """Parameters moved off their starting values, another for each head."""
    torch.manual_seed(0)
    made = create(name, heads, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def distances(
    name: str,
    *,
    heads: int = 2,
    queries: int = 37,
    keys: int = 37,
    batch: int = 1,
    order: Order | None = None,
    **options: Any,
) -> DistanceBias:
    """A kernel of contextual positions, far out in a text, with a gate where there is an order."""
    made, x = kernel(name, heads, **options), torch.zeros(batch, queries, 8)
    # Few of a size that a kernel is flat at, all of a size that matters.
    positions = 1e4 + draw(batch, heads, keys, seed=1).abs().add(0.05).cumsum(-1)
    gate = None if order is None else (0.5 + draw(batch, heads, queries, seed=2).abs()).float()
    own = distance_bias(made, positions, None, x=x, heads=heads, order=order or "after_gate", whole=False)
    return replace(own, queries=positions[..., keys - queries :], gate=gate)


def doubled(bias: Any) -> Any:
    """The same bias in float64, of the same numbers."""
    wide = {}
    for one in fields(bias):
        value = getattr(bias, one.name)
        if isinstance(value, Tensor) and value.is_floating_point():
            wide[one.name] = value.double()
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            wide[one.name] = tuple(x.double() if x.is_floating_point() else x for x in value)
        elif isinstance(value, Bias):
            wide[one.name] = doubled(value)
        elif isinstance(value, torch.dtype):
            wide[one.name] = torch.float64
    return replace(bias, **wide)


def tabled(name: str, *, heads: int = 2, queries: int = 37, keys: int = 37, **options: Any) -> DistanceBias:
    """A kernel of index positions, for the last of them: a table, a network, a sum of cosines."""
    made, x = kernel(name, heads, **options), torch.zeros(1, queries, 8)
    places = torch.arange(keys, dtype=torch.float64).view(1, 1, -1)
    own = distance_bias(made, places, None, x=x, heads=heads, counted=True)
    last = places[..., keys - queries :]
    return replace(own, queries=last, counted=Counted(last, places))


def turned(
    host: Any, *, width: int = 16, frequencies: int | None = None, entropies: bool = False, stretch: float = 0.4
) -> StretchedRows:
    """Planes that turn by n / alpha(n) under a bias of the index distance, as adaptive's default has them."""
    count, heads = frequencies or width // 2, host.shape[1]
    theta = 2.0 ** -torch.arange(count, dtype=torch.float64)
    means = draw(heads, 32, seed=5).abs().cumsum(-1).float() if entropies else None
    own = stretch + 0.1 * torch.arange(heads, dtype=torch.float32).view(-1, 1, 1)
    return StretchedRows(host, theta, stretch=own, entropies=means)


def damped(host: DistanceBias) -> DampedBias:
    """With a temperature of its distance, another one for each head."""
    return DampedBias(host, 0.1 * torch.arange(1.0, host.heads + 1).view(-1, 1, 1))


def trained(bias: Any, *, positions: bool = True) -> Any:
    """The same bias over leaves; its first two tensors, positions, stay as they are unless they are to be trained, and
    frequencies and entropies do.
    """
    kept = list(map(id, bias.tensors()[: 0 if positions else 2]))
    if (rows := turned_rows(bias)) is not None:
        assert isinstance(rows, StretchedRows)
        kept += [id(rows.theta), id(rows.entropies)]
    leaves = [t if id(t) in kept else t.detach().clone().requires_grad_(t.is_floating_point()) for t in bias.tensors()]
    return bias.rebuilt(leaves)


def errors(
    bias: Any,
    *,
    width: int = 16,
    values: int | None = None,
    batch: int = 1,
    group: int = 1,
    dtype: torch.dtype = torch.float32,
    positions: bool = True,
    impl: str = "triton",
    seed: int = 0,
    by_terms: bool = False,
) -> dict[str, float]:
    """Of the output and of all gradients, see `relative`; those of numbers per head also by their terms, if asked."""
    bias = trained(bias, positions=positions)
    _, heads, queries, keys = bias.shape
    shapes = ((heads, queries, width), (heads // group, keys, width), (heads // group, keys, values or width))
    seeds = range(10 * seed + 3, 10 * seed + 6)
    q, k, v = (draw(batch, *x, seed=n, dtype=dtype).requires_grad_() for n, x in zip(seeds, shapes, strict=True))
    receive = draw(batch, heads, queries, values or width, seed=10 * seed + 9, dtype=dtype)
    got = outcome(bias, impl, q, k, v, receive)
    wide = [x.detach().double().repeat_interleave(heads // x.size(1), 1).requires_grad_() for x in (q, k, v)]
    exact = trained(doubled(bias), positions=positions)
    expected = outcome(exact, "reference", *wide, receive.double())
    terms = outcome(by_pairs(exact), "reference", *wide, receive.double()) if by_terms else {}
    added = {name: x.abs().sum((-1, -2)) for name, x in terms.items() if x.shape != expected[name].shape}
    for letter in "kv":
        expected[letter] = expected[letter].unflatten(1, (-1, group)).sum(2)
    return relative(got, expected, added)


def by_pairs(bias: Any) -> Any:
    """The same bias over leaves with a number for each pair where it has one per head: a sum's terms as gradients."""
    _, heads, queries, keys = bias.shape
    wide = [t.expand(heads, queries, keys) if t.shape == (heads, 1, 1) else t for t in bias.tensors()]
    leaves = [x.detach().clone().requires_grad_(t.requires_grad) for x, t in zip(wide, bias.tensors(), strict=True)]
    return bias.rebuilt(leaves)


def outcome(bias: Any, impl: str, q: Tensor, k: Tensor, v: Tensor, receive: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of q, k, v and all that the bias is made of."""
    leaves = {letter: x for letter, x in zip("qkv", (q, k, v), strict=True) if x.requires_grad}
    leaves |= {f"field {n}": x for n, x in enumerate(bias.tensors()) if x.requires_grad}
    out = backend(impl)(q, k, v, bias, scale=2 / math.sqrt(q.size(-1)))
    grads = torch.autograd.grad(out, list(leaves.values()), receive.to(out.dtype), allow_unused=True)
    found = {name: torch.zeros_like(x) if g is None else g for (name, x), g in zip(leaves.items(), grads, strict=True)}
    return {"output": out.detach(), **found}


def relative(
    got: dict[str, Tensor], expected: dict[str, Tensor], added: dict[str, Tensor] | None = None
) -> dict[str, float]:
    """The largest error of each over its largest value, or over a half where that is less: numbers are of size 1, and
    what is smaller is a difference of sums. Positions of queries and of keys are one, a token's.

    Args:
        got, expected: by name.
        added: how large in all the terms are that something is a sum of; where a tenth of that is more, errors are
            measured by it. Two millionths of a tenth are three of the last places that each term has in float32.
    """
    assert got.keys() == expected.keys()
    sizes = {name: max(float(x.abs().max()), 0.5) for name, x in expected.items()}
    sizes |= {name: max(sizes[name], float(x.max()) / 10) for name, x in (added or {}).items()}
    positions = sizes.keys() & {"field 0", "field 1"}
    sizes |= dict.fromkeys(positions, max((sizes[name] for name in positions), default=0.0))
    return {name: float((got[name].double() - x).abs().max()) / sizes[name] for name, x in expected.items()}
