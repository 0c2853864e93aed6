"""On tensors without numbers, as PyTorch's meta device has them: a GPU is never waited for, and nothing is T x T."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from extrapo import GPT, GPTConfig, encodings

pytestmark = pytest.mark.usefixtures("triton")

#: Whose choice of a path reads a number from the device, and why.
WAITS = {
    "dynamic-bias": "how far its table of distances must go",
    "transformer-xl": "the same",
    "randomized-transformer-xl": "the same",
    "dynamic-longrope": "whether all rows are of one length",
    "dynamic-ntk": "the same",
    "dynamic-yarn": "the same",
    "rerope": "how many keys are far for all rows",
    "self-extend": "the same",
    "learned": "whether a text is longer than its table",
    "randomized-alibi": "whether its positions are consecutive",
    "sandwich": "whether its columns keep their digits",
}


class Operations(TorchDispatchMode):
    """How many operations there are, and how large a tensor one of them makes."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.largest = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.count += not function.is_view
        for one in made if isinstance(made, tuple | list) else (made,):
            self.largest = max(self.largest, one.numel() if isinstance(one, Tensor) else 0)
        return made


@pytest.fixture(autouse=True)
def autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """That device has none."""
    real, asked = torch.autocast, torch.is_autocast_enabled
    monkeypatch.setattr(torch, "autocast", lambda kind, **o: nullcontext() if kind == "meta" else real(kind, **o))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != "meta" and asked(kind))


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


@pytest.mark.parametrize("name", ["alibi", "cable", "cable-weighted", "k-cable", "fox", "kerple-log", "sinks+k-cable"])
def test_auto_takes_the_generated_kernels_and_no_matrix_of_pairs(name: str) -> None:
    length = 2**16
    chosen, seen = step(name, length)
    assert chosen == "triton"
    # The widest thing of a token is its hidden layer, of four times 64 numbers.
    assert seen.largest <= 4 * 64 * length


@pytest.mark.parametrize(
    ("name", "more"), [("alibi", 20), ("kerple-log", 25), ("k-cable", 40), ("cable", 40), ("fox", 40)]
)
def test_operations_beyond_those_of_plain_attention(name: str, more: int) -> None:
    """Of a layer and step, as they are written; a compiler makes few of them."""
    (_, one), (_, two) = (step(name, layers=layers) for layers in (1, 2))
    (_, plain_one), (_, plain_two) = (step("window", layers=layers) for layers in (1, 2))
    assert (two.count - one.count) - (plain_two.count - plain_one.count) <= more
