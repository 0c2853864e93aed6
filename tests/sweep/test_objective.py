"""What runs are judged by, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from extrapo.errors import UserError
from extrapo.sweep.objective import Outcome, objective


def outcome(*losses: float | None, train_length: int = 64) -> Outcome:
    """Losses at T/2, T, 2T, 4T, ..."""
    rows = [
        {"length": train_length * 2**i // 2, "nll": nll, "ppl": None if nll is None else math.exp(nll)}
        for i, nll in enumerate(losses)
    ]
    return Outcome(rows, train_length, 1234.0)


def test_at_a_length() -> None:
    curve = outcome(2.0, 1.0, 3.0)
    assert objective("ppl@2T").value(curve) == pytest.approx(math.exp(3.0))
    assert objective("nll@128").value(curve) == 3.0
    assert objective("nll@32").value(curve) == 2.0
    assert objective("ppl@16T").lengths(64) == [1024]
    with pytest.raises(UserError, match="no length 1,024"):
        objective("ppl@16T").value(curve)


def test_a_length_that_a_model_cannot_do_is_worst() -> None:
    curve = outcome(2.0, 1.0, None)
    assert objective("ppl@2T").value(curve) == math.inf
    assert objective("log-auc").value(curve) == math.inf
    assert objective("degradation-length").value(curve) == 64.0


def test_means_over_the_lengths_from_training_on() -> None:
    curve = outcome(9.0, 1.0, 2.0, 4.0)
    assert objective("mean-nll").value(curve) == pytest.approx(7 / 3)
    assert objective("log-auc").value(curve) == pytest.approx((0 + 1 + 3) / 3)
    assert objective("mean-nll").value(outcome(9.0, 1.5)) == 1.5
    assert objective("log-auc").value(outcome(9.0, 1.5)) == 0
    assert objective("log-auc").value(outcome(9.0, None, 2.0)) == math.inf


def test_degradation_is_found_between_lengths() -> None:
    step = math.log(1.05)
    assert objective("degradation-length").value(outcome(9.0, 1.0, 1.0, 1.0)) == 256.0
    assert objective("degradation-length").value(outcome(9.0, 1.0, 1.0 + 2 * step)) == pytest.approx(64 * math.sqrt(2))
    assert objective("degradation-length").direction == "maximize"


def test_speed() -> None:
    assert objective("tokens-per-second").value(outcome(1.0, 1.0)) == 1234.0


@pytest.mark.parametrize("name", ["ppl", "ppl@T", "ppl@0T", "loss@2T", "auc"])
def test_unknown(name: str) -> None:
    with pytest.raises(UserError, match="unknown objective"):
        objective(name)
