"""What only a GPU shows: the same attention there, and the main job in its defaults for one (bfloat16, compiled)."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.attention import BACKENDS, backend
from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.terminal import Output

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", encodings.names())
def test_every_backend_equals_the_reference_on_the_device(name: str) -> None:
    layer = encodings.create(name, heads=4, head_dim=16, dim=64).to("cuda", torch.float64)
    x = torch.randn(2, 150, 64, device="cuda", dtype=torch.float64)
    q, k, v, bias, *_ = layer.encode(*torch.randn(3, 2, 4, 150, 16, device="cuda", dtype=torch.float64), x=x)
    scale = 1 / math.sqrt(16)
    expected = backend("reference")(q, k, v, bias, scale=scale)
    for one in BACKENDS:
        # flex has no float64: tests/attention/test_flex.py
        if one.name != "flex" and one.serves(bias, q, k):
            torch.testing.assert_close(one(q, k, v, bias, scale=scale), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("encoding", ["k-cable", "cable", "rope"])
def test_the_main_job_in_its_defaults(small: RunConfig, encoding: str) -> None:
    values = {**small.model_dump(exclude_unset=True), "encoding": encoding, "accelerator": "auto", "steps": 30}
    result = fit(RunConfig(**values), Output())
    assert all(1 < (p.ppl or 0) < 300 for p in result.points)
