"""Whole models on the generated kernels: packed documents, checkpoints, several processes, formulas of other people."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rank
import torch
from exact import distances, errors
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from extrapo import GPT, GPTConfig
from extrapo.encodings.core.bias import Elementwise
from extrapo.encodings.core.logit import Additive
from extrapo.kernels.base import Kernel, Positive, kernels

pytestmark = pytest.mark.usefixtures("interpreter")


def outcome(impl: str, encoding: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Of three documents in two rows: what each token's output is, and the gradients of all parameters."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(encoding=encoding, layers=1, heads=2, dim=16, vocab_size=16, impl=impl)).to(dtype)
    tokens = torch.randint(0, 16, (2, 30), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0] * 19 + [1] * 11, [2] * 30])
    hidden = model.hidden(tokens, documents)
    hidden[..., ::3].square().sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"hidden": hidden.detach(), **grads}


@pytest.mark.parametrize("encoding", ["k-cable", "t5", "sinks+kerple-log", "adaptive"])
def test_packed_documents(encoding: str) -> None:
    """Documents of several lengths, none of which sees another."""
    found, expected = outcome("triton", encoding), outcome("reference", encoding, torch.float64)
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(found[name].double(), x, rtol=0, atol=2e-5 * max(1e-2, float(x.abs().max())))


class Dent(Kernel):
    """Somebody's own: phi(z) = -d z^2 e^(-z / w) / (1 + z)."""

    def __init__(self, heads: int | None = None) -> None:
        super().__init__(heads)
        self.d, self.w = Positive(0.7, heads), Positive(3.0, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        d, w = values
        return -d * z.square() * torch.exp(-z / w) / (1 + z)

    def values(self) -> tuple[Tensor, ...]:
        return self.d(), self.w()


@pytest.fixture
def dent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its name, as long as it is known."""
    monkeypatch.setattr(kernels, "_classes", dict(kernels._classes))
    kernels.register("dent")(Dent)
    return "dent"


@pytest.mark.parametrize("order", [None, "after_gate", "before_gate"])
def test_a_kernel_of_another_package(dent: str, order: None) -> None:
    """Nothing of it is known here but its formula."""
    found = errors(distances(dent, queries=20, keys=20, order=order))
    assert max(found.values()) <= 2e-6, found


@dataclass(frozen=True)
class Lean(Additive):
    """s q.k + tanh(a_i) b_j, of factors a_i and b_j."""

    def bias(self, *factors: Tensor) -> Tensor:
        return factors[0].tanh() * factors[1]


@dataclass(frozen=True)
class Leaning(Elementwise):
    """A bias that has nothing to do with positions.

    Args:
        a: (B, H, T) of queries.
        b: (B, H, S) of keys.
    """

    a: Tensor
    b: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return *self.a.shape, self.b.size(-1)

    @property
    def logit(self) -> Lean:
        return Lean()

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        stop = self.b.size(-1) - self.a.size(-1) + rows.stop
        return self.a[..., rows].unsqueeze(-1), self.b[..., :stop].unsqueeze(-2)


def test_a_bias_of_another_package() -> None:
    made = torch.Generator().manual_seed(0)
    found = errors(Leaning(torch.randn(1, 2, 18, generator=made), torch.randn(1, 2, 20, generator=made)))
    assert max(found.values()) <= 2e-6, found


def test_a_block_is_made_again() -> None:
    """With its activations checkpointed, a model's gradients are the same to the bit."""
    found = []
    for again in (False, True):
        model = rank.model()
        context, _ = model.context(rank.batch())
        x = model.embed(rank.batch(), context)
        (block,) = model.blocks
        y, _ = checkpoint(block, x, context, use_reentrant=False) if again else block(x, context)
        y.square().sum().backward()
        found.append(rank.gradients(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(x, found[1][name]) for name, x in found[0].items())


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes(mode: str, tmp_path: Path) -> None:
    """Each with half of the batch: what they come to is the gradient of the whole."""
    command = [sys.executable, rank.__file__, str(tmp_path)]
    started = [subprocess.Popen([*command, str(n), mode], stderr=subprocess.PIPE, text=True) for n in range(2)]
    told = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], told[0][-2000:]
    model = rank.model()
    rank.loss(model(rank.batch())).backward()
    expected = rank.gradients(model)
    for n in range(2):
        found = torch.load(tmp_path / f"{mode}-{n}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, x in expected.items():
            torch.testing.assert_close(found[name], x, rtol=1e-4, atol=1e-5 * float(x.abs().max()))
