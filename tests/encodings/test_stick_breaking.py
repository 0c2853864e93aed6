"""Stick-breaking attention against products over keys, one pair at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import Bias, LayerSpec, stick_breaking

HEADS, D, T = 2, 4, 7
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def draws(length: int = T) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, length, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v, torch.randn(2, length, HEADS * D, generator=generator, dtype=torch.float64)


def plain(z: Tensor, v: Tensor, *, current: bool, give: bool) -> Tensor:
    """z (B, H, T, T), v (B, H, T, d): products of shares of the stick."""
    out = []
    for b in range(z.size(0)):
        for h in range(z.size(1)):
            for i in range(z.size(2)):
                left, total = torch.ones((), dtype=z.dtype), torch.zeros_like(v[b, h, i])
                for j in reversed(range(i + 1 if current else i)):
                    beta = 1 / (1 + (-z[b, h, i, j]).exp())
                    total, left = total + left * beta * v[b, h, j], left * (1 - beta)
                out.append(total + left * v[b, h, i] if give else total)
    return torch.stack(out).view_as(v)


@pytest.mark.parametrize("impl", ["reference", "tiles"])
@pytest.mark.parametrize("host", [None, "alibi", "k-cable"])
@pytest.mark.parametrize(
    "options", [{}, {"attend_current": True}, {"remainder": "value"}, {"attend_current": True, "remainder": "value"}]
)
def test_formula(impl: str, host: str | None, options: dict[str, Any]) -> None:
    q, k, v, x = (t.requires_grad_() for t in draws())
    layer = stick_breaking.StickBreaking(LayerSpec(**SHAPE), **options)
    under = None if host is None else encodings.create(host, **SHAPE).double()
    whole: Bias = layer.bias(x) if under is None else layer.wrap(under.bias(x), x, None)
    z = SCALE * q @ k.transpose(-1, -2)
    if under is not None:
        z = z + under.bias(x).added(slice(0, T))
    current, give = options.get("attend_current", False), options.get("remainder") == "value"
    expected = plain(z, v, current=current, give=give)
    got = attend(q, k, v, whole, scale=SCALE, impl=impl)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    leaves = [q, k, v, *([] if under is None else under.parameters())]
    receive = torch.randn_like(got)
    found, wanted = (torch.autograd.grad((t * receive).sum(), leaves) for t in (got, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("remainder", ["drop", "value"])
def test_rows_of_later_tiles_and_new_tokens_after_others(remainder: stick_breaking.Remainder) -> None:
    q, k, v, x = draws(20)
    layer = stick_breaking.StickBreaking(LayerSpec(**SHAPE), remainder=remainder)
    expected = plain(SCALE * q @ k.transpose(-1, -2), v, current=False, give=remainder == "value")
    got = attend(q, k, v, layer.bias(x), scale=SCALE, impl="tiles")
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    later = layer.bias(x[:, 17:], layer.bias(x[:, :17]))
    got = attend(q[:, :, 17:], k, v, later, scale=SCALE)
    torch.testing.assert_close(got, expected[:, :, 17:], rtol=0, atol=1e-12)


def test_the_first_token_sees_nothing_and_has_finite_gradients() -> None:
    q, k, v, x = (t.requires_grad_() for t in draws(1))
    out = attend(q, k, v, stick_breaking.StickBreaking(LayerSpec(**SHAPE)).bias(x), scale=SCALE)
    assert torch.equal(out, torch.zeros_like(out))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), [q, k, v]))


def test_what_is_given_away_is_one_stick() -> None:
    q, k, v, x = draws(33)
    layer = stick_breaking.StickBreaking(LayerSpec(**SHAPE), remainder="value")
    out = attend(q, k, torch.ones_like(v), layer.bias(x), scale=SCALE)
    torch.testing.assert_close(out, torch.ones_like(out), rtol=0, atol=1e-12)


def test_keys_out_of_sight_leave_the_stick_whole() -> None:
    """Logits of -inf, as a window has them: the keys take nothing, and gradients stay finite."""
    q, k, v, x = (t.requires_grad_() for t in draws())
    layer = encodings.create("stick-breaking+alibi", **SHAPE)
    bias = layer.bias(x)
    z = SCALE * q @ k.transpose(-1, -2) + encodings.create("alibi", **SHAPE).bias(x).added(slice(0, T))
    hidden = torch.ones(T, T, dtype=torch.bool).tril(-3)
    out = bias.mix(z.masked_fill(hidden | torch.ones(T, T).triu(1).bool(), float("-inf")), v, slice(0, T))
    expected = plain(z.masked_fill(hidden, -1e9), v, current=False, give=False)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), [q, k, v]))


def test_float32_holds_in_long_rows_of_extreme_logits() -> None:
    q, k, v, x = draws(1000)
    outs, grads = [], []
    for dtype in (torch.float64, torch.float32):
        leaves = [t[:1].detach().to(dtype).requires_grad_() for t in (12 * q, 12 * k, v)]
        bias = stick_breaking.StickBreaking(LayerSpec(**SHAPE)).bias(x[:1].to(dtype))
        outs.append(attend(*leaves, bias, scale=SCALE))
        grads.append(torch.autograd.grad(outs[-1].square().sum(), leaves))
    assert outs[1].isfinite().all()
    torch.testing.assert_close(outs[1].double(), outs[0], rtol=0, atol=2e-3)
    for one, other in zip(grads[1], grads[0], strict=True):
        assert (one.double() - other).norm() < 1e-3 * other.norm()
