"""What a sweep will cost, before it starts: operations, and hours at the speed that this machine shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from extrapo.config import RunConfig
from extrapo.evaluation import protocol_of
from extrapo.sweep.text import format_duration
from extrapo.words import counted

#: Share of a plain matrix product's speed that training reaches here; small models reach less.
EFFICIENCY = 0.35
#: Seconds that a trial takes beside its arithmetic: text, pictures, records.
OVERHEAD = 4.0


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Args:
        trials: number of runs.
        tokens: training tokens of all of them.
        operations: floating-point operations of training and evaluation.
        seconds: of all trials one after the other.
    """

    trials: int
    tokens: int
    operations: float
    seconds: float

    def line(self, slots: int) -> str:
        """In words."""
        tokens = f"{self.tokens / 1e6:,.1f}M" if self.tokens >= 1e6 else f"{self.tokens:,}"
        return (
            f"{counted(self.trials, 'trial')}, {tokens} training tokens, "
            f"{self.operations:.1e} operations: "
            f"roughly {format_duration(self.seconds / slots)} in {counted(slots, 'slot')} of this machine"
        )


def operations(run: RunConfig) -> tuple[int, float]:
    """Training tokens and floating-point operations of a run: 6 per weight and token trained, 2 per token read.

    Attention adds 4 D (length / 2) per token and layer forward, three times that in training.
    """
    run = run.resolved()
    dim, layers = run.dim, run.layers
    weights = 12 * layers * dim**2 + run.vocab_size * dim
    tokens = run.batch_size * run.seq_len * run.steps
    training = tokens * 3 * (2 * weights + 2 * layers * dim * run.seq_len)
    validations = -(-run.steps // run.val_every)
    scoring = validations * run.val_tokens * (2 * weights + 2 * layers * dim * run.seq_len)
    for length, scored in protocol_of(run).tokens_read(run.lengths or (), run.eval_tokens).items():
        scoring += scored * (2 * weights + 2 * layers * dim * length)
    return tokens, float(training + scoring)


def speed(threads: int, gpu: bool) -> float:
    """Operations per second of a matrix product here, in float32 (on a GPU in bfloat16)."""
    import torch

    device = "cuda" if gpu else "cpu"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    size = 4096 if gpu else 512
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16 if gpu else torch.float32)
    (x @ x).sum().item()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        (x @ x).sum().item()
        count += 1
    torch.set_num_threads(before)
    return 2 * size**3 * count / (time.perf_counter() - began)


def estimate(runs: Sequence[RunConfig], trials: int, rate: float) -> Cost:
    """The cost of `trials` trials that are like these runs on average.

    Args:
        runs: the cells, or some that stand for them.
        trials: how many will run.
        rate: see `speed`.
    """
    parts = [operations(run) for run in runs]
    share = trials / len(parts)
    total = share * sum(count for _, count in parts)
    return Cost(
        trials=trials,
        tokens=round(share * sum(tokens for tokens, _ in parts)),
        operations=total,
        seconds=total / (EFFICIENCY * rate) + OVERHEAD * trials,
    )
