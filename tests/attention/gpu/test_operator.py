"""As an operator of PyTorch: its registrations, no break of a compiler's graph, and shapes without numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact import distances, tabled, trained, turned
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import Encoding
from extrapo.encodings.core.turned import TurnedRows

pytestmark = pytest.mark.usefixtures("interpreter")


def layer(name: str) -> Encoding:
    torch.manual_seed(0)
    return encodings.create(name, heads=2, head_dim=16, dim=32)


def inputs(length: int = 18) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    qkv, x = (torch.randn(*s, generator=made) for s in ((3, 1, 2, length, 16), (1, length, 32)))
    return qkv.requires_grad_(), x.requires_grad_()


@pytest.mark.parametrize(
    "bias",
    [distances("log", queries=18, keys=18, order="after_gate"), turned(tabled("linear", queries=18, keys=18), width=8)],
    ids=["clock", "turned"],
)
def test_its_registrations(bias: Any) -> None:
    from extrapo.attention.gpu.formulas import Factors
    from extrapo.attention.gpu.operator import attention

    factors = Factors.of(trained(bias, positions=not isinstance(bias, TurnedRows)))
    tensors = [x.detach().requires_grad_(x.requires_grad) for x in factors.tensors]
    q, k, v = (torch.randn(1, 2, 18, 8, requires_grad=True) for _ in range(3))
    found = torch.library.opcheck(attention, (q, k, v, tensors, factors.name, factors.trained, 0.25, "9,1"))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", ["k-cable", "cable-weighted", "sinks+kerple-log", "adaptive"])
def test_a_compiler_sees_one_graph(name: str) -> None:
    """And gets the same numbers, to the bit."""
    made = layer(name)

    def attention(qkv: Tensor, x: Tensor) -> Tensor:
        encoded = made.encode(*qkv, x=x)
        return attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=0.25, impl="triton")

    qkv, x = inputs()
    outcomes = []
    for function in (attention, torch.compile(attention, backend="aot_eager", fullgraph=True)):
        out = function(qkv, x)
        leaves = [qkv, x, *made.parameters()]
        outcomes.append([out, *torch.autograd.grad(out.square().sum(), leaves, allow_unused=True)])
    for one, other in zip(*outcomes, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_half_precision_by_autocast_is_one_graph_too() -> None:
    made = layer("k-cable")

    def attention(qkv: Tensor, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            encoded = made.encode(*qkv.bfloat16(), x=x)
            return attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=0.25, impl="triton")

    qkv, x = inputs()
    out = torch.compile(attention, backend="aot_eager", fullgraph=True)(qkv, x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, attention(qkv, x))


def test_activations_are_made_again() -> None:
    made = layer("k-cable")

    def attention(qkv: Tensor, x: Tensor) -> Tensor:
        encoded = made.encode(*qkv, x=x)
        return attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=0.25, impl="triton")

    qkv, x = inputs()
    outcomes: list[Any] = []
    for function in (attention, lambda *a: checkpoint(attention, *a, use_reentrant=False)):
        outcomes.append(torch.autograd.grad(function(qkv, x).square().sum(), [qkv, x]))
    assert all(torch.equal(*pair) for pair in zip(*outcomes, strict=True))
