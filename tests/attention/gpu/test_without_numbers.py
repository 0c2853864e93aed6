"""On tensors without numbers, as PyTorch's meta device has them: a GPU is never waited for, and nothing is T x T."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from exact import damped, distances, tabled, trained, turned
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from extrapo import GPT, GPTConfig, encodings
from extrapo.attention.gpu.tuning import INTERPRETED

pytestmark = pytest.mark.usefixtures("triton", "meta_autocast")

#: Whose choice of a path reads a number from the device, and why.
WAITS = {
    "transformer-xl": "how far its table of distances must go",
    "randomized-transformer-xl": "the same",
    "dynamic-longrope": "whether all rows are of one length",
    "dynamic-ntk": "the same",
    "dynamic-yarn": "the same",
    "rerope": "how many keys are far for all rows",
    "self-extend": "the same",
    "learned": "whether a text is longer than its table",
    "sandwich": "whether its columns keep their digits",
}


#: Kernels of attention, forward and backward, and the sum of numbers that are one for a head.
OF_OPERATOR = 4


class Operations(TorchDispatchMode):
    """How many operations there are, and how large a tensor one of them makes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = 0

    def launches(self) -> int:
        """How many of them run a kernel: not those that look at memory another way, or set some aside."""
        return sum("empty" not in name for name in self.names)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.names.append(str(function))
        for one in made if isinstance(made, tuple | list) else (made,):
            self.largest = max(self.largest, one.numel() if isinstance(one, Tensor) else 0)
        return made


def step(name: str, length: int = 64, layers: int = 1) -> tuple[str, Operations]:
    """A pass forward and one backward; the back end that `auto` takes, and what was done."""
    shape = GPTConfig(encoding=name, layers=layers, heads=4, dim=64, vocab_size=32)
    model = GPT(shape).to("meta")
    tokens = torch.zeros(1, length, dtype=torch.int64, device="meta")
    chosen = model.choices(tokens)[0].impl
    with Operations() as seen:
        model.hidden(tokens).sum().backward()
    return chosen, seen


@pytest.mark.parametrize("name", [name for name in encodings.names() if name not in WAITS])
def test_nothing_waits_for_a_gpu(name: str) -> None:
    """It would raise: there are no numbers to wait for."""
    step(name)


SERVED = ("alibi", "cable", "cable-weighted", "k-cable", "fox", "kerple-log", "sinks+k-cable", "t5", "dynamic-bias")


@pytest.mark.parametrize("name", [*SERVED, "adaptive"])
def test_auto_takes_the_generated_kernels_and_no_matrix_of_pairs(name: str) -> None:
    length = 2**16
    chosen, seen = step(name, length)
    assert chosen == "triton"
    # The widest thing of a token is its hidden layer, of four times 64 numbers.
    assert seen.largest <= 4 * 64 * length


@pytest.mark.parametrize("name", ["alibi", "kerple-log", "k-cable", "cable", "fox"])
def test_launches_beyond_those_of_plain_attention(name: str) -> None:
    """Of a layer and step, as they are written: a compiler makes fewer of them."""
    (_, one), (_, two) = (step(name, layers=layers) for layers in (1, 2))
    # What all have in common: the stock attention is then an operation forward and another one backward.
    (_, plain_one), (_, plain_two) = (step("window", layers=layers) for layers in (1, 2))
    beyond = two.launches() - one.launches() - (plain_two.launches() - plain_one.launches()) + OF_OPERATOR - 2
    assert 1 <= beyond <= 12


def launched(bias: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    """The kernels of a step under a bias, and how many others the operator runs beside them."""
    from extrapo.attention.gpu.formulas import Factors
    from extrapo.attention.gpu.kernels import Launch

    kernels: list[str] = []
    monkeypatch.setattr(Launch, "run", lambda self, kernel, *rest: kernels.append(kernel))
    monkeypatch.setattr(Launch, "blocks", lambda self, kernel: INTERPRETED)
    factors = Factors.of(bias)
    q, k, v, out = torch.empty(4, 2, 2, 40, width).unbind(0)
    with Operations() as seen:
        launch = Launch(q, k, v, factors.tensors, factors.name, factors.trained, 1.0, "")
        launch.forward(out, torch.empty(2, 2, 40))
        launch.backward(out, out, torch.empty(2, 2, 40), q, k, v)
    return kernels, seen.launches()


def test_what_the_operator_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three kernels, and a sum of what each block of queries has of numbers per head."""
    bias = trained(distances("log", queries=40, keys=40, batch=2))
    kernels, others = launched(replace(bias, queries=bias.keys), 16, monkeypatch)
    assert kernels == ["forward", "of_queries", "of_keys"]
    assert len(kernels) + others == OF_OPERATOR


def test_what_planes_that_turn_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of distances besides, the lines, and tokens that are laid out plane by plane and back."""
    bias = trained(turned(damped(tabled("three-term", queries=40, keys=40)), width=8), positions=False)
    kernels, others = launched(bias, 8, monkeypatch)
    assert kernels == ["forward", "of_queries", "of_keys", "of_distances"]
    assert others <= 30
