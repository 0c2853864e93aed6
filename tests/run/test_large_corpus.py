"""Two billion tokens: the first step comes within seconds, and their number takes little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse import sparse_corpus

#: Trains two steps, and says when the second began and how much memory there ever was.
TRAIN = """
import json, resource, sys, time
from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.training import LanguageModel

plain, steps = LanguageModel.training_step, []

def training_step(self, batch, batch_idx):
    steps.append((time.monotonic(), time.process_time()))
    return plain(self, batch, batch_idx)

LanguageModel.training_step = training_step
began = time.monotonic(), time.process_time()
fit(RunConfig(
    encoding="alibi", layers=1, heads=2, dim=16, seq_len=256, steps=2, batch_size=4, val_every=2,
    val_tokens=256, eval_tokens=256, lengths=(256,), heatmaps=0, accelerator="cpu", data=sys.argv[1], root=sys.argv[2],
))
wall, cpu = (then - start for then, start in zip(steps[1], began))
print(json.dumps({"wall": wall, "cpu": cpu, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def first_step(corpus: Path, root: Path) -> dict[str, float]:
    """Seconds to the end of the first step, of the wall's clock and of the processor's, and bytes at the peak."""
    command = [sys.executable, "-c", TRAIN, str(corpus), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_the_first_step_on_two_billion_tokens(tmp_path: Path) -> None:
    large = first_step(sparse_corpus(tmp_path / "large", 2_000_000_000), tmp_path / "runs")
    small = first_step(sparse_corpus(tmp_path / "small", 200_000), tmp_path / "runs")
    print(large, small)
    # Of the processor's time: what else the machine does is not of it.
    assert large["cpu"] < 5
    assert large["peak"] - small["peak"] < 2**30
