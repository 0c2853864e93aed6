"""Memory grows with the length and not with its square: attention, the loss, and a whole evaluation.

Each case runs in a process of its own, on one thread, and reports the growth of its peak between a small
problem and a large one. The peak is VmHWM: ru_maxrss would start at the peak of the process that started it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from extrapo import GPT, GPTConfig, encodings, loss
from extrapo.attention import attend

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")

MIB = 2**20


def attention(length: int) -> None:
    """Forward and backward of k-cable: B=1, H=2, d=16."""
    x = torch.randn(1, length, 32, requires_grad=True)
    q, k, v = (torch.randn(1, 2, length, 16, requires_grad=True) for _ in range(3))
    layer = encodings.create("k-cable", heads=2, head_dim=16, dim=32)
    attend(q, k, v, layer.bias(x), scale=0.25).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def training_loss(rows: int) -> None:
    """Forward and backward of the loss over a vocabulary of 50,304."""
    hidden = torch.randn(1, rows, 16, requires_grad=True)
    weight = torch.randn(50_304, 16, requires_grad=True)
    loss.mean_nll(hidden, weight, torch.zeros(1, rows, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None


@torch.no_grad()
def evaluation_loss(rows: int) -> None:
    """Each token's loss over a vocabulary of 50,304."""
    loss.token_nll(torch.randn(1, rows, 16), torch.randn(50_304, 16), torch.zeros(1, rows, dtype=torch.int64))


@torch.no_grad()
def evaluation(length: int) -> None:
    """One window of a k-cable model of two layers."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=64, layers=2, heads=1, dim=8, encoding="k-cable")).eval()
    tokens = torch.randint(0, 64, (1, length + 1))
    losses = loss.token_nll(model.hidden(tokens[:, :-1]), model.unembedding.weight, tokens[:, 1:])
    assert torch.isfinite(losses).all()


CASES: dict[str, Callable[[int], None]] = {
    case.__name__: case for case in (attention, training_loss, evaluation_loss, evaluation)
}


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def growth(case: str, small: int, large: int) -> int:
    """By how many bytes the peak at size `large` is above the peak at size `small`."""
    done = subprocess.run(
        [sys.executable, __file__, case, str(small), str(large)],
        # A compiler takes more than what is measured, once.
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return int(done.stdout.split()[0])


@pytest.mark.slow
def test_attention_keeps_no_matrix() -> None:
    """Measured: 126 to 142 MiB, which is a dozen tiles; one T x T matrix of float32 a head is 2,048 MiB."""
    assert growth("attention", 1024, 16_384) < 300 * MIB


@pytest.mark.slow
@pytest.mark.parametrize(("case", "rows", "logits"), [("training_loss", 4096, 786), ("evaluation_loss", 8192, 1572)])
def test_the_loss_keeps_no_logits(case: str, rows: int, logits: int) -> None:
    """Measured: 291 and 105 MiB, the same at any number of rows."""
    assert growth(case, 64, rows) < 400 * MIB < logits * MIB


@pytest.mark.slow
def test_one_window_of_32768_tokens() -> None:
    """Measured: 89 MiB; one T x T matrix is 4,096 MiB."""
    assert growth("evaluation", 1024, 32_768) < 300 * MIB


if __name__ == "__main__":  # the process that is measured
    name, small, large = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    CASES[name](small)
    before, began = peak(), time.perf_counter()
    CASES[name](large)
    print(peak() - before, f"bytes more; {time.perf_counter() - began:.1f} s")
