"""Scores of curves that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from extrapo.evaluation.scores import context_used, log_ratios, scores


def rows(losses: dict[int, float | None]) -> list[dict[str, Any]]:
    return [{"length": length, "nll": nll} for length, nll in losses.items()]


def test_a_model_that_holds() -> None:
    found = scores(rows({64: 3.1, 128: 3.0, 256: 3.0, 512: 3.0}), 128)
    assert found == {"log_auc": 0, "longest_within_1.05": 512, "context_used": 128, "context_gain": 0}


def test_a_model_that_breaks() -> None:
    losses = {64: 3.1, 128: 3.0, 256: 3.0 + math.log(1.04), 512: 3.0 + math.log(1.6), 1024: 3.0 + math.log(4)}
    found = scores(rows(losses), 128)
    assert found == pytest.approx(
        {
            "log_auc": math.log(1.04 * 1.6 * 4) / 3,
            "longest_within_1.05": 256,
            "degradation_1.05": 512,
            "degradation_1.5": 512,
            "degradation_2": 1024,
            "context_used": 1024,
            "context_gain": -math.log(4),
        }
    )


def test_the_context_that_is_used_ends_where_no_more_changes_the_loss() -> None:
    assert context_used({32: 0.1, 64: 0.04, 128: 0.0, 256: -0.02, 512: -0.0249, 1024: -0.0298}) == 256
    # A change that comes late counts.
    assert context_used({32: 0.0, 64: 0.001, 128: 0.002, 256: 0.5}) == 256
    assert context_used({}) is None


def test_what_a_curve_does_not_have() -> None:
    assert scores(rows({64: 3.0, 256: 3.0}), 128) == {}
    assert scores(rows({128: math.nan, 256: 3.0}), 128) == {}
    assert scores([], 128) == {}
    assert log_ratios(rows({256: 3.5, 128: 3.0, 512: None}), 128) == {128: 0, 256: 0.5}
    # A length without a finite loss is lost.
    assert scores(rows({128: 3.0, 256: math.inf}), 128)["degradation_2"] == 256
    assert "log_auc" not in scores(rows({128: 3.0, 256: math.inf}), 128)
