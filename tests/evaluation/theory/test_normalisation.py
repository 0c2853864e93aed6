"""ln Z, entropy and windows of a line of logits, beside printed values, closed forms and plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import extrapo
from extrapo.errors import UserError
from extrapo.evaluation.theory import normalisation

LENGTHS = (256, 1024, 4096, 16384, 65536)
N = torch.arange(LENGTHS[-1], dtype=torch.float64)

#: (ln Z, H) at LENGTHS: computed once in float64, to four digits.
PRINTED = {
    "uniform": (0 * N, "5.5452 5.5452 6.9315 6.9315 8.3178 8.3178 9.7041 9.7041 11.0904 11.0904"),
    "linear": (-N / 256, "5.0885 5.5045 5.5286 6.4521 5.5471 6.5452 5.5471 6.5452 5.5471 6.5452"),
    "log .5": (-0.5 * N.log1p(), "3.4200 5.3425 4.1361 6.6910 4.8406 8.0515 5.5395 9.4213 6.2355 10.7975"),
    "log 1": (-N.log1p(), "1.8123 4.3125 2.0161 5.2060 2.1855 6.0664 2.3303 6.9029 2.4568 7.7214"),
    "log 2": (-2 * N.log1p(), ".4953 1.6068 .4971 1.6283 .4976 1.6349 .4977 1.6368 .4977 1.6374"),
    "sqrt": (-0.1 * N.sqrt(), "4.5584 5.4646 5.1136 6.6049 5.2886 7.2145 5.3009 7.2951 5.3009 7.2956"),
    "cauchy": (-(0.1 * N).square().log1p(), "2.7611 3.9280 2.7795 4.0629 2.7840 4.1084 2.7851 4.1228 2.7854 4.1272"),
    "three": (
        -N / 256 - 0.1 * N.log1p() - 0.1 * N.sqrt(),
        "3.8316 5.2367 3.9592 5.6956 3.9606 5.7063 3.9606 5.7063 3.9606 5.7063",
    ),
}


@pytest.mark.parametrize("kernel", PRINTED)
def test_printed_values(kernel: str) -> None:
    logits, printed = PRINTED[kernel]
    pairs = zip(
        normalisation.at(normalisation.ln_z(logits), LENGTHS),
        normalisation.at(normalisation.entropy(logits), LENGTHS),
        strict=True,
    )
    values = [float(value) for pair in pairs for value in pair]
    assert values == pytest.approx([float(x) for x in printed.split()], abs=5.1e-5)


lines = st.lists(st.floats(-40, 40), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(lines, st.floats(0.005, 0.9), st.floats(-50, 50))
def test_plain_sums(values: list[float], eps: float, constant: float) -> None:
    found = extrapo.theory.of_bias(values, eps=(eps,))
    weights = [math.exp(value) for value in values]
    total = math.fsum(weights)
    p = [weight / total for weight in weights]
    assert found["ln_z"] == pytest.approx(math.log(total), abs=1e-9)
    assert found["entropy"] == pytest.approx(-math.fsum(x * math.log(x) for x in p if x > 0), abs=1e-9)
    size = found["window"][eps]
    assert math.fsum(p[:size]) >= 1 - eps - 1e-9
    assert size == 1 or math.fsum(p[: size - 1]) < 1 - eps + 1e-9
    # All but ln Z is the same when a row is moved.
    moved = extrapo.theory.of_bias(np.array(values) + constant, eps=(eps,))
    assert moved["entropy"] == pytest.approx(found["entropy"], abs=1e-8)
    assert moved["ln_z"] == pytest.approx(found["ln_z"] + constant, abs=1e-8)


def test_keys_that_are_not_seen_weigh_nothing() -> None:
    seen = extrapo.theory.of_bias([0.0, -1.0, -2.0])
    assert extrapo.theory.of_bias([0.0, -1.0, -2.0, -math.inf, -math.inf]) == seen


def test_a_rising_line_has_a_bounded_entropy_and_no_finite_sum() -> None:
    """So bounded entropies imply a finite sum only of logits that are bounded above."""
    found = extrapo.theory.of_bias(torch.arange(700.0, dtype=torch.float64))
    assert found["entropy"] == pytest.approx(1.0407, abs=5e-5)
    assert found["ln_z"] > 699


def test_slopes_are_those_of_the_last_doubling() -> None:
    uniform = torch.zeros(1024, dtype=torch.float64)
    assert normalisation.slopes(normalisation.ln_z(uniform), [2, 64, 1024]).tolist() == pytest.approx([1.0] * 3)
    alibi = -torch.arange(1 << 16, dtype=torch.float64) / 16
    assert abs(float(normalisation.slopes(normalisation.entropy(alibi), [1 << 16]))) < 1e-9


@pytest.mark.parametrize("wrong", [[], [[0.0, 1.0]], [math.nan], [math.inf], [-math.inf, -math.inf]])
def test_mistakes(wrong: list[float]) -> None:
    with pytest.raises(UserError):
        extrapo.theory.of_bias(wrong)
    with pytest.raises(UserError, match="share"):
        extrapo.theory.of_bias([0.0], eps=(1.0,))
