"""MEP's two readings against the three kernels, one pair at a time."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from extrapo.encodings import LayerSpec
from extrapo.encodings.mep import MEP

H, T = 2, 9


@pytest.mark.parametrize("merge", ["prob", "logit"])
def test_mean_of_three_kernels_with_the_slopes_of_alibi(merge: Literal["prob", "logit"]) -> None:
    layer = MEP(LayerSpec(H, 4, 4 * H), merge=merge).double()
    assert not list(layer.parameters())
    tile = layer.bias(torch.zeros(1, T, 4 * H, dtype=torch.float64)).added(slice(0, T))[0]
    for h, slope in enumerate([2.0**-4, 2.0**-8]):
        for i in range(T):
            for j in range(i + 1):
                n = i - j
                logs = [-slope * n, -slope * n * n, -math.log(1 + slope * n)]
                mean = math.log(sum(map(math.exp, logs)) / 3) if merge == "prob" else sum(logs) / 3
                assert float(tile[h, i, j]) == pytest.approx(mean, abs=1e-6)


def test_the_heaviest_tail_wins_after_the_softmax_and_the_lightest_before() -> None:
    # At n = 4,000 and slope 1/16: e^-250, e^-1e6 and 1/251.
    x = torch.zeros(1, 4001, 4 * H)
    prob, logit = (
        MEP(LayerSpec(H, 4, 4 * H), merge=merge).bias(x).added(slice(4000, 4001)) for merge in ("prob", "logit")
    )
    assert float(prob[0, 0, 0, 0]) == pytest.approx(-math.log(3 * 251), rel=1e-5)
    assert float(logit[0, 0, 0, 0]) < -1e5


@pytest.mark.parametrize("merge", ["prob", "logit"])
def test_parametrised_trains_slopes_and_exponent_from_the_same_start(merge: Literal["prob", "logit"]) -> None:
    x = torch.zeros(1, T, 4 * H)
    free, trained = (
        MEP(LayerSpec(H, 4, 4 * H), merge=merge),
        MEP(LayerSpec(H, 4, 4 * H), merge=merge, parametrised=True),
    )
    torch.testing.assert_close(trained.bias(x).dense(), free.bias(x).dense())
    assert sum(p.numel() for p in trained.parameters()) == 4 * H
