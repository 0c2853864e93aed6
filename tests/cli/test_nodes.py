"""One model on several machines: two launches of torchrun on this one, as two machines would make them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.terminal import Output
from extrapo.tracking import runs


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(200)
def test_two_machines_train_one_model(small: RunConfig, tmp_path: Path) -> None:
    config = small.model_copy(update={"precision": "64-true", "heatmaps": 0})
    values = {**config.model_dump(exclude_unset=True), "precision": "64-true", "heatmaps": 0}
    flags = [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    fitted = ["-m", "extrapo", "fit", *flags, "--strategy", "ddp", "--devices", "1", "--num-nodes", "2", "--json"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    machines = [
        subprocess.Popen(
            [*torchrun, *meeting, "--node-rank", str(number), *fitted],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for number in range(2)
    ]
    try:
        alone = fit(config.model_copy(update={"micro_batch": 2, "root": str(tmp_path / "alone")}), Output(json=True))
        ended = [machine.communicate(timeout=150) for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], ended
    # The first rank of the first machine speaks and records for all.
    assert ended[1][0] == ""
    curve = json.loads(ended[0][0])["curve"]
    for one, other in zip(curve, alone.points, strict=True):
        assert one["nll"] == pytest.approx(other.nll, abs=1e-10)
    (run,) = runs(small.root)
    assert run.status == "FINISHED"
