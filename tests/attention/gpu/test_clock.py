"""Contextual positions by one kernel are the sums of increments, and their gradients autograd's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from outcomes import draw
from torch import Tensor

from extrapo.encodings.core.positions import INCREMENTS, ContextualPositions

pytestmark = pytest.mark.usefixtures("interpreter")


@pytest.fixture(autouse=True)
def small_blocks(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a short text has several."""
    from extrapo.attention.gpu import clock

    monkeypatch.setattr(clock, "BLOCK", 16)


def numbers(length: int) -> Tensor:
    """(B, H, T), the heads of a token side by side in memory, as a linear map leaves them."""
    return (4 * draw(2, length, 3, dtype=torch.float32)).transpose(1, 2).requires_grad_()


@pytest.mark.parametrize("length", [1, 16, 45])
@pytest.mark.parametrize("increments", INCREMENTS)
def test_sums_and_gradients(increments: str, length: int) -> None:
    from extrapo.attention.gpu.clock import clock

    z, wide = numbers(length), numbers(length).detach().double().requires_grad_()
    found, expected = clock(z, increments), INCREMENTS[increments](wide).cumsum(-1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    receive = draw(*found.shape, seed=1)
    (got,), (wanted,) = torch.autograd.grad(found, z, receive), torch.autograd.grad(expected, wide, receive)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))


def test_small_increments_keep_their_digits() -> None:
    """Most tokens add next to nothing: 1 + e^-20 is 1 in float32."""
    from extrapo.attention.gpu.clock import clock

    z = torch.full((1, 1, 33), -20.0)
    expected = torch.nn.functional.softplus(z.double()).cumsum(-1)
    torch.testing.assert_close(clock(z, "softplus"), expected, rtol=1e-5, atol=0)


def test_its_registrations() -> None:
    from extrapo.attention.gpu.clock import clock

    assert set(torch.library.opcheck(clock, (numbers(18), "softplus")).values()) == {"SUCCESS"}


def test_a_model_takes_it_where_a_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is the same model: what a CPU sums up operation by operation."""
    from extrapo.attention.gpu.fused import add_up
    from extrapo.encodings.core import positions

    assert positions.ADDERS["cuda"] is add_up
    torch.manual_seed(0)
    made, x = ContextualPositions(12, 3, increments="log-sigmoid", bias=True), draw(2, 20, 12, dtype=torch.float32)
    asked: list[Any] = []
    one = made(x)
    torch.testing.assert_close(add_up(made.projection(x), "log-sigmoid"), one, rtol=1e-6, atol=1e-6)
    monkeypatch.setitem(positions.ADDERS, "meta", lambda z, increments: asked.append(increments) or z)
    made.summed(torch.empty(2, 3, 20, device="meta"))
    assert asked == ["log-sigmoid"]
