"""GRAPE-M with a contextual clock against its formula in loops, and its start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Context
from extrapo.encodings.grape_rotation import GrapeMContextual
from extrapo.errors import UserError

H, D, T, DIM = 2, 6, 9, 12
SHAPE = {"heads": H, "head_dim": D, "dim": DIM}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"gate": "softplus"},
    {"norm": "before"},
    {"norm": None, "per_head": True},
]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return draw(1, H, T, D, seed=0), draw(1, H, T, D, seed=1), draw(1, T, DIM, seed=2)


def built(options: dict[str, Any]) -> GrapeMContextual:
    layer = encodings.create("grape-m-ctx", **SHAPE, **options).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        layer.omega.bias.add_(6)
    return layer


def plain(layer: GrapeMContextual, q: Tensor, k: Tensor, x: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The turned queries and keys, token by token."""
    norm = options.get("norm", "after")
    weights = dict(layer.named_parameters())
    found: dict[str, list[Tensor]] = {"q": [], "k": []}
    for h in range(H):
        clock = h if options.get("per_head") else 0
        phase = torch.zeros((), dtype=torch.float64)
        for t in range(T):
            for name, y in (("q", q[0, h, t]), ("k", k[0, h, t])):

                def normed(y: Tensor, name: str = name) -> Tensor:
                    return y / (y.square().mean() + 1e-5).sqrt() * weights[f"{name}_norm.weight"]

                if norm == "before":
                    y = normed(y)
                turn = -phase * weights["log_theta"].exp()
                a, b = y.chunk(2)
                y = torch.cat([a * turn.cos() - b * turn.sin(), a * turn.sin() + b * turn.cos()])
                found[name].append(normed(y) if norm == "after" else y)
            z = weights["omega.weight"][clock] @ x[0, t] + weights["omega.bias"][clock]
            phase = phase + (F.softplus(z) if options.get("gate") == "softplus" else torch.sigmoid(z / 16))
    q, k = (torch.stack(found[name]).view(1, H, T, D) for name in ("q", "k"))
    return q, k


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_formula(options: dict[str, Any]) -> None:
    """Queries and keys one by one, so that the sense of the rotation counts; in values and gradients."""
    layer = built(options)
    q, k, x = (t.requires_grad_() for t in inputs())
    expected = plain(layer, q, k, x, options)
    out = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    got = out.q, out.k
    torch.testing.assert_close(got, expected)
    receive = draw(1, H, T, D, seed=4)
    leaves = (q, k, x, *layer.parameters())
    grads = [torch.autograd.grad(((a + 2 * b) * receive).sum(), leaves) for a, b in (got, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_clock_goes_on_from_what_is_carried(options: dict[str, Any]) -> None:
    layer = built(options)
    q, k, x = inputs()
    whole = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    state, keys = None, []
    for t in (slice(0, 4), slice(4, 5), slice(5, T)):
        context = Context.plain(x[:, t], t.start)
        out = layer.transform(q[:, :, t], k[:, :, t], k[:, :, t], x=x[:, t], context=context, state=state)
        state = out.state
        keys.append(out.k)
    torch.testing.assert_close(torch.cat(keys, dim=2), whole.k)


@pytest.mark.parametrize(("gate", "step"), [("sigmoid16", 1 / (1 + math.exp(0.4317))), ("softplus", 1e-3)])
def test_start(gate: str, step: float) -> None:
    """b = ln(e^0.001 - 1) = -6.907: steps of sigmoid(-0.4317) = 0.394, or of 0.001; RoPE's frequencies."""
    layer = encodings.create("grape-m-ctx", **SHAPE, gate=gate, norm=None).double()
    assert float(layer.omega.bias.detach()) == pytest.approx(-6.907, abs=1e-3)
    q, k, x = inputs()
    out = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    assert float(out.state.detach()) == pytest.approx(T * step, rel=1e-4)
    rope = encodings.create("rope", **SHAPE)
    context = Context(-Context.plain(x).index * float(out.state.detach()) / T)
    expected = rope.transform(q, k, k, x=x, context=context, state=None)
    torch.testing.assert_close(out.k, expected.k, rtol=0, atol=1e-5)


def test_a_gain_after_the_rotation_breaks_the_law_of_distances() -> None:
    """With the same query and key everywhere and steps all alike, products depend on i - j only before the gains."""
    q, k, x = draw(1, H, 1, D, seed=0), draw(1, H, 1, D, seed=1), torch.zeros(1, T, DIM, dtype=torch.float64)
    q, k = q.expand(1, H, T, D), k.expand(1, H, T, D)
    for norm, holds in (("before", True), ("after", False)):
        out = built({"norm": norm}).transform(q, k, k, x=x, context=Context.plain(x), state=None)
        products = out.q @ out.k.transpose(-1, -2)
        assert torch.allclose(products[..., 1:, 1:], products[..., :-1, :-1]) is holds


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="gate must be 'sigmoid16' or 'softplus'"):
        encodings.create("grape-m-ctx", **SHAPE, gate="relu")
    with pytest.raises(UserError, match=r"'grape-m-ctx'.*must be even, not 7"):
        encodings.create("grape-m-ctx", heads=2, head_dim=7, dim=14)
