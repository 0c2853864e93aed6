"""PaTH by flash-linear-attention's kernels: who is served, and in Triton's interpreter that they are the reference."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from outcomes import draw
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from extrapo import encodings
from extrapo.attention import backend, choose
from extrapo.attention.gpu import path
from extrapo.encodings import Bias, Encoding

needs_fla = pytest.mark.skipif(
    importlib.util.find_spec("fla") is None, reason="fla is not installed: pip install 'extrapo[gpu]'"
)


def layer(name: str, width: int = 16) -> Encoding:
    """Two heads, with parameters that are no longer those of the start."""
    torch.manual_seed(0)
    made = encodings.create(name, heads=2, head_dim=width, dim=2 * width)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def asked(name: str, dtype: torch.dtype, width: int = 16) -> tuple[Bias, Tensor, Tensor]:
    """What attention is asked, on a card that is not here: of nothing but shapes."""
    with torch.no_grad():
        qkv, x = torch.zeros(3, 1, 2, 20, width, dtype=dtype), torch.zeros(1, 20, 2 * width)
        encoded = layer(name, width).encode(*qkv, x=x)

    def there(x: Tensor) -> Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device="cuda")

    with FakeTensorMode():
        return encoded.bias.rebuilt(list(map(there, encoded.bias.tensors()))), there(encoded.q), there(encoded.k)


@pytest.mark.parametrize(
    ("name", "dtype", "width", "why"),
    [
        ("path", torch.bfloat16, 16, ""),
        ("path", torch.float16, 64, ""),
        ("path", torch.float32, 16, "rounds the steps to half precision"),
        ("path", torch.bfloat16, 24, "heads of 16, 32, 64, 128 numbers"),
        ("path-fox", torch.bfloat16, 16, "Householder steps alone"),
        ("window+path", torch.bfloat16, 16, "Householder steps alone"),
        ("cope", torch.bfloat16, 16, "Householder steps alone"),
    ],
)
def test_whom_it_serves_on_a_card(
    name: str, dtype: torch.dtype, width: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path, "is_installed", lambda: True)
    monkeypatch.setattr(path, "broken", lambda: "")
    bias, q, k = asked(name, dtype, width)
    verdict = backend("fla").serves(bias, q, k)
    assert bool(verdict) == (not why)
    assert why in verdict.reason
    assert "\n" not in verdict.reason
    assert choose(bias, q, k).impl == ("tiles" if why else "fla")


def test_where_it_is_not_installed_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "is_installed", lambda: False)
    bias, q, k = asked("path", torch.bfloat16)
    assert backend("fla").serves(bias, q, k) == (False, path.ABSENT)
    assert choose(bias, q, k).impl == "tiles"
    assert "CUDA tensors" in backend("fla").serves(*on_a_cpu()).reason


def on_a_cpu() -> tuple[Bias, Tensor, Tensor]:
    encoded = layer("path").double().encode(*draw(3, 1, 2, 5, 16), x=draw(1, 5, 32))
    return encoded.bias, encoded.q, encoded.k


def outcome(impl: str, length: int, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    """Of a layer: the output, and the gradients of q, k, v, of the input and of all parameters, in float64."""
    wide = torch.float64 if impl == "reference" else torch.float32
    made = layer("path").to(device, wide)
    # What half precision keeps, so that both sides have the same numbers.
    x = draw(1, length, 32, seed=1).bfloat16().to(device, wide).requires_grad_()
    qkv = draw(3, 1, 2, length, 16, seed=2).bfloat16().to(device, wide if impl == "reference" else dtype)
    encoded = made.encode(*qkv.requires_grad_(), x=x)
    out = backend(impl)(encoded.q, encoded.k, encoded.v, encoded.bias, scale=0.25)
    receive = draw(*out.shape, seed=3).bfloat16().to(out)
    leaves = [qkv, x, *made.parameters()]
    grads = torch.autograd.grad(out, leaves, receive, allow_unused=True)
    return [x.detach().double() for x in (out, *grads) if x is not None]


def assert_close(found: list[Tensor], expected: list[Tensor], bound: float) -> None:
    assert len(found) == len(expected) > 4
    off = [float((x - y).abs().max() / y.abs().max()) for x, y in zip(found, expected, strict=True)]
    assert max(off) <= bound, off


@needs_fla
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(
    ("length", "dtype", "bound"),
    [
        pytest.param(70, torch.float32, 1e-4, marks=pytest.mark.slow),
        pytest.param(70, torch.float16, 3e-3, marks=pytest.mark.chaos),
    ],
)
def test_it_is_the_reference(length: int, dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of its chunks; its steps have the digits of float16."""
    from triton.runtime.autotuner import Autotuner

    # It would time its kernels on a card to choose among their blocks: the first will do.
    monkeypatch.setattr(Autotuner, "_bench", lambda self, *a, config, **b: [float(self.configs.index(config))] * 3)
    assert_close(outcome("fla", length, dtype), outcome("reference", length, dtype), bound)


@needs_fla
@pytest.mark.gpu
@pytest.mark.parametrize("length", [70, 1000])
def test_it_is_the_reference_on_a_card(length: int) -> None:
    found = outcome("fla", length, torch.bfloat16, "cuda")
    assert_close(found, outcome("reference", length, torch.bfloat16, "cuda"), 5e-2)
