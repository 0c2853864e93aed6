"""The fused back end: what it serves, what it says where it does not, and that others take over there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compilers import refusing
from outcomes import DIM, HEAD_DIM, HEADS, SCALE, draw, layer
from torch import Tensor

from extrapo.attention import Verdict, attend, choose
from extrapo.attention.cpu.fused import MIN_LOGITS, CPUFused
from extrapo.encodings import Elementwise, Logit, Visibility
from extrapo.encodings.core.hosted import Limited
from extrapo.errors import MachineError, UserError

BACKEND = CPUFused()

Parts = tuple[Tensor, Tensor, Tensor, Any]


def parts(name: str, length: int = 9, dtype: torch.dtype = torch.float32, **options: Any) -> Parts:
    q, k, v = (draw(1, HEADS, length, HEAD_DIM, seed=n, dtype=dtype) for n in range(3))
    encoded = layer(name, dtype, **options).encode(q, k, v, x=draw(1, length, DIM, seed=3, dtype=dtype))
    return encoded.q, encoded.k, encoded.v, encoded.bias


@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("name", ["nope", "alibi", "k-cable", "cable-weighted", "adaptive", "window+k-cable"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_formula_of_pairs_is_served(name: str, dtype: torch.dtype) -> None:
    q, k, _, bias = parts(name)
    verdict = BACKEND.serves(bias, q.to(dtype), k.to(dtype))
    assert verdict, verdict.reason
    assert "compiles" in verdict.reason


@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize(
    ("name", "why"), [("cope", "owns its logits"), ("path", "owns its logits"), ("fire", "number of each pair")]
)
def test_the_others_are_left_to_others(name: str, why: str) -> None:
    q, k, _, bias = parts(name)
    assert why in BACKEND.serves(bias, q, k).reason
    assert choose(bias, q, k).impl != BACKEND.name


@pytest.mark.usefixtures("cpp_compiler")
def test_turns_that_are_not_the_same_along_every_diagonal() -> None:
    q, k, _, bias = parts("adaptive")
    kernel = bias.host.host
    gap = 3.0 * (torch.arange(9) > 4)
    kernel = replace(kernel, queries=kernel.queries + gap, keys=kernel.keys + gap)
    verdict = BACKEND.serves(replace(bias, host=replace(bias.host, host=kernel)), q, k)
    assert not verdict
    assert "along every diagonal" in verdict.reason


@pytest.mark.usefixtures("cpp_compiler")
def test_frequencies_that_are_trained_are_left_to_who_has_their_gradient() -> None:
    q, k, v, bias = parts("adaptive")
    theta = bias.theta.clone().requires_grad_()
    turned = replace(bias, theta=theta)
    assert "frequencies" in BACKEND.serves(turned, q, k).reason
    attend(q, k, v, turned, scale=SCALE).square().sum().backward()
    assert theta.grad is not None
    assert theta.grad.abs().max() > 0


@pytest.mark.usefixtures("cpp_compiler")
def test_where_nothing_is_to_be_computed_by_it() -> None:
    q, k, _, bias = parts("alibi")
    assert not BACKEND.serves(bias, q[:, :, :1], k)
    assert not BACKEND.serves(bias, q.to("meta"), k.to("meta"))
    assert BACKEND.serves(bias, q[:, :, 3:], k)
    two = Visibility(5).within(Visibility(7, 1))
    assert "one window" in BACKEND.serves(Limited(bias, two), q, k).reason
    assert "recorded" in BACKEND.serves(bias, torch.nn.Parameter(q), k).reason


@pytest.mark.usefixtures("cpp_compiler")
def test_short_texts_do_not_pay_for_a_compiler() -> None:
    """`auto` takes it from 2^20 logits on; by name it is to be had for any."""
    one = torch.zeros(2, 2, 512, 4)
    assert MIN_LOGITS == 2 * 2 * 512 * 512
    q, k, _, bias = parts("k-cable")
    assert BACKEND.pays(bias, one, one)
    assert BACKEND.pays(bias, one, one[:, :, 1:]) == Verdict(False, "a compiler pays from 1,048,576 logits on")
    assert choose(bias, q, k).impl != BACKEND.name
    assert choose(bias, q, k, "cpu-fused").impl == BACKEND.name
    q, k, _, bias = parts("k-cable", 1024)
    assert choose(bias, q, k).impl == BACKEND.name


# -- where nothing can be compiled -----------------------------------------------------------------------------------


def switched_off(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")


def no_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)


def broken_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("without", [switched_off, no_compiler, broken_compiler])
def test_without_a_compiler_others_serve(without: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(monkeypatch, tmp_path)
    q, k, v, bias = parts("k-cable", 1024)
    verdict = BACKEND.serves(bias, q, k)
    assert not verdict
    assert "compiler" in verdict.reason
    assert "\n" not in verdict.reason
    assert choose(bias, q, k).impl == "cpu-tiles"
    attend(q, k, v, bias, scale=SCALE)
    with pytest.raises(UserError, match=r"impl 'cpu-fused' cannot serve here: .*compiler"):
        attend(q, k, v, bias, scale=SCALE, impl="cpu-fused")


@pytest.mark.usefixtures("cpp_compiler", "asked_anew")
def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    q, k, v, bias = parts("k-cable")
    got, expected = (attend(q, k, v, bias, scale=SCALE, impl=impl) for impl in ("cpu-fused", "reference"))
    torch.testing.assert_close(got, expected)


@dataclass(frozen=True)
class Looks(Logit):
    """As somebody may write it: it looks at a number, which no recording can."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score if bool(factors[0].sum() > 0) else -score


@dataclass(frozen=True)
class Sorts(Logit):
    """As somebody may write it: pairs depend on one another."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score + factors[0].sort(dim=-1).values


@dataclass(frozen=True)
class TooMuch(Logit):
    """A formula that only the compiler is to refuse."""

    power: float

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score + factors[0] * self.power


@dataclass(frozen=True)
class Somebodys(Elementwise):
    """A bias of one number of each key."""

    formula: Logit
    column: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, self.column.numel(), self.column.numel()

    @property
    def logit(self) -> Logit:
        return self.formula

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return (self.column.view(1, 1, 1, -1)[..., : rows.stop],)


@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("formula", [Looks(), Sorts()])
def test_a_formula_that_cannot_be_compiled_is_said_once(formula: Logit, caplog: pytest.LogCaptureFixture) -> None:
    """In a line, and computed by others."""
    q, k, v, _ = parts("nope", 1024)
    bias = Somebodys(formula, torch.ones(1024))
    with caplog.at_level(logging.WARNING, "extrapo"):
        for _ in range(3):
            verdict = BACKEND.serves(bias, q, k)
            assert not verdict
            assert choose(bias, q, k).impl == "cpu-tiles"
    (message,) = caplog.messages
    assert message == verdict.reason
    assert message.startswith("the formula cannot be compiled")
    assert "\n" not in message
    got, expected = (attend(q, k, v, bias, scale=SCALE, impl=impl) for impl in ("auto", "reference"))
    torch.testing.assert_close(got, expected)


@pytest.mark.usefixtures("cpp_compiler", "asked_anew")
def test_a_formula_that_the_compiler_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It passes its trial and fails at the formula, when all has been decided: the next one takes over, for good."""
    refusing(monkeypatch, tmp_path)
    q, k, v, _ = parts("nope", 1024)
    bias = Somebodys(TooMuch(0.123), torch.ones(1024))
    assert choose(bias, q, k).impl == BACKEND.name
    with caplog.at_level(logging.WARNING, "extrapo"):
        for _ in range(2):
            got = attend(q.requires_grad_(), k, v, bias, scale=SCALE)
            got.sum().backward()  # type: ignore[no-untyped-call]
            assert choose(bias, q, k).impl == "cpu-tiles"
    (message,) = caplog.messages
    assert message == BACKEND.serves(bias, q, k).reason
    torch.testing.assert_close(got, attend(q, k, v, bias, scale=SCALE, impl="reference"))
    with pytest.raises(MachineError, match=r"impl 'cpu-fused' cannot serve here: the formula .*; use 'auto'") as told:
        attend(q, k, v, Somebodys(TooMuch(0.124), torch.ones(1024)), scale=SCALE, impl=BACKEND.name)
    assert "\n" not in str(told.value)
