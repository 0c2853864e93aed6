"""Scores of curves that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from extrapo.errors import UserError
from extrapo.evaluation.scores import context_used, degradation_length, log_auc, mean_nll, scores


def rows(losses: dict[int, float | None]) -> list[dict[str, Any]]:
    return [{"length": length, "nll": nll} for length, nll in losses.items()]


def test_a_model_that_holds() -> None:
    found = scores(rows({64: 3.1, 128: 3.0, 256: 3.0, 512: 3.0}), 128)
    assert found == {
        "mean_nll": 3,
        "log_auc": 0,
        "degradation_1.05": 512,
        "degradation_1.5": 512,
        "degradation_2": 512,
        "longest_within_1.05": 512,
        "context_gain": 0,
        "context_used": 128,
    }


def test_a_model_that_breaks() -> None:
    losses = {64: 3.1, 128: 3.0, 256: 3.0 + math.log(1.04), 512: 3.0 + math.log(1.6), 1024: 3.0 + math.log(4)}
    found = scores(rows(losses), 128)
    # (0 + 0.0392207 + 0.4700036 + 1.3862944) / 4, by hand.
    assert found["log_auc"] == pytest.approx(0.4738797, abs=1e-7)
    assert found["mean_nll"] == pytest.approx(3.4738797, abs=1e-7)
    assert 256 < found["degradation_1.05"] < found["degradation_1.5"] < 512 < found["degradation_2"] < 1024
    share = math.log(2 / 1.6) / math.log(4 / 1.6)
    assert found["degradation_2"] == pytest.approx(512 * 2**share)
    assert found["longest_within_1.05"] == 256
    assert found["context_gain"] == pytest.approx(-math.log(4))
    assert found["context_used"] == 1024


def test_a_geometric_grid_counts_by_doublings_however_fine() -> None:
    """Where the loss is linear in log2 of the length."""
    coarse, fine = ({64 * 2**i: 3 + i / 8 for i in every} for every in ((0, 4), (0, 1, 2, 3, 4)))
    for score, value in ((mean_nll, 3.25), (log_auc, 0.25)):
        assert score(rows(coarse), 64) == pytest.approx(value)
        assert score(rows(fine), 64) == pytest.approx(value)


def test_the_context_that_is_used_ends_where_no_more_changes_the_loss() -> None:
    assert context_used(rows({32: 0.1, 64: 0.04, 128: 0.0, 256: -0.02, 512: -0.0249, 1024: -0.0298})) == 256
    # A change that comes late counts.
    assert context_used(rows({32: 0.0, 64: 0.001, 128: 0.002, 256: 0.5})) == 256


def test_what_a_curve_does_not_have() -> None:
    assert scores(rows({64: 3.0, 256: 3.0}), 128) == {}
    assert scores(rows({128: None, 256: 3.0}), 128) == {}
    assert scores([], 128) == {}
    with pytest.raises(UserError, match="the curve has no length 128, the training length"):
        log_auc(rows({256: 3.0}), 128)
    # A length without a finite loss is lost, and no mean is finite with it.
    found = scores(rows({128: 3.0, 256: None}), 128)
    assert found == {
        **{f"degradation_{limit}": 128 for limit in ("1.05", "1.5", "2")},
        "longest_within_1.05": 128,
        "context_used": 256,
    }
    assert degradation_length(rows({128: 3.0, 256: math.nan}), 128) == 128
