"""The tests of this folder that need Triton's interpreter, in a process that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("triton"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is that process"),
]

#: A formula of a clock without a gate and one with it, a line, planes that turn; the operator, as what a compiler sees.
SAMPLE = (
    "test_parity.py::test_every_kernel_without_a_gate_and_in_both_orders[linear-None]",
    "test_parity.py::test_every_kernel_without_a_gate_and_in_both_orders[cauchy-log-after_gate]",
    "test_parity.py::test_half_precision_leaves_clocks_and_gates_their_digits[linear-None-dtype0]",
    "test_lines.py::test_a_factor_on_the_score_is_a_line_too",
    "test_turned.py::test_every_host_of_the_distance[no temperature]",
    "test_turned.py::test_angles_of_each_pair_are_left_to_others",
    "test_clock.py::test_sums_and_gradients[softplus-45]",
    "test_operator.py::test_its_registrations[turned]",
    "test_operator.py::test_half_precision_by_autocast_is_one_graph_too",
)


def passed(*arguments: str) -> str:
    """What pytest says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=HERE.parents[2], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    return done.stdout


@pytest.mark.slow
def test_a_sample_passes() -> None:
    """Output and all gradients, beside the plain formula in float64."""
    assert "skipped" not in passed(*(str(HERE / one) for one in SAMPLE))


@pytest.mark.parametrize(
    "which",
    [
        pytest.param("not chaos", marks=(pytest.mark.slow, pytest.mark.kernels)),
        pytest.param("chaos", marks=pytest.mark.chaos),
    ],
)
def test_they_pass(which: str) -> None:
    passed("-m", which, str(HERE))
