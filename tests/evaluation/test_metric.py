"""LengthNLL: sums that float32 gets wrong, and the same sums over several processes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig
from extrapo.evaluation import LengthNLL, extrapolation_curve, perplexity
from extrapo.loss import token_nll


@given(batches=st.lists(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=9), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_the_mean_over_all_tokens(batches: list[list[float]]) -> None:
    metric = LengthNLL()
    for batch in batches:
        metric.update(torch.tensor(batch))
    mean, count = metric.compute()
    everything = [loss for batch in batches for loss in batch]
    assert int(count) == len(everything)
    assert float(mean) == pytest.approx(math.fsum(everything) / len(everything), rel=1e-12, abs=1e-12)


def test_within_a_batch_float32_would_lose_the_small_losses() -> None:
    # 2^24 + 1 is 2^24 in float32.
    metric = LengthNLL()
    metric.update(torch.tensor([2.0**24, 1.0, 1.0, 1.0]))
    assert float(metric.nll) == 2**24 + 3


def test_over_many_batches_float32_would_stand_still() -> None:
    metric = LengthNLL()
    metric.update(torch.tensor([2.0**24]))
    for _ in range(100):
        metric.update(torch.ones(1))
    assert float(metric.nll) == 2**24 + 100
    assert metric.nll.dtype == torch.float64
    assert metric.tokens.dtype == torch.int64


def test_reset() -> None:
    metric = LengthNLL()
    metric.update(torch.ones(2, 3))
    metric.reset()
    metric.update(torch.full((4,), 2.0))
    assert [float(value) for value in metric.compute()] == [2.0, 4.0]


def test_perplexity() -> None:
    assert perplexity(math.log(50_304)) == pytest.approx(50_304)
    assert perplexity(1e9) == math.inf
    assert math.isnan(perplexity(math.nan))


def curves(rank: int, ranks: int) -> list[dict[str, Any]]:
    """Three batches of long windows and of short ones, a length past the table, one batch for all ranks."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=23, layers=1, heads=1, dim=8, encoding="learned", train_length=2048)).eval()
    text = np.random.default_rng(0).integers(0, 23, 12_289).astype(np.uint16)

    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        return token_nll(model.hidden(inputs), model.unembedding.weight, targets)

    many = extrapolation_curve(score, text, [64, 2048, 4096], tokens_wanted=12_288, rank=rank, ranks=ranks)
    few = extrapolation_curve(score, text, [1024, 4096], tokens_wanted=4096, rank=rank, ranks=ranks)
    return [point.row() for point in (*many, *few)]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, f"file://{tmp_path / 'meeting'}", str(rank)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    alone = curves(0, 1)
    assert [row["tokens"] for row in alone] == [12_288, 12_288, 0, 4096, 0]
    try:
        for process in processes:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            for row, expected in zip(json.loads(out.splitlines()[-1]), alone, strict=True):
                if expected["nll"] is not None:
                    assert row["nll"] == pytest.approx(expected["nll"], rel=1e-9)
                    assert row["ppl"] == pytest.approx(expected["ppl"], rel=1e-9)
                    row |= {"nll": expected["nll"], "ppl": expected["ppl"]}
                assert row == expected
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":  # one of the two processes
    meeting, rank = sys.argv[1], int(sys.argv[2])
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    print(json.dumps(curves(rank, 2)))
    torch.distributed.destroy_process_group()
