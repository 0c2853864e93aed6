"""Whether a kernel's sum is finite, beside what each kernel says of itself, and at exponents next to 1."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from extrapo import encodings, kernels
from extrapo.encodings.core import DistanceBias
from extrapo.evaluation.theory import tails


def of_kernel(name: str, **options: float) -> bool:
    bias = encodings.create("contextual", heads=1, head_dim=4, dim=4, kernel=None, increments="const").bias(
        torch.zeros(1, 4, 4)
    )
    assert isinstance(bias, DistanceBias)
    kernel = kernels.get(name)(1, **options)
    made = replace(bias, phi=kernel.phi, values=kernel.values())
    return bool(tails.finite(tails.kernel_exponent(made)).item())


@pytest.mark.parametrize(("p", "is_finite"), [(0.5, False), (1.0, False), (1.01, True), (2.0, True)])
def test_an_exponent_next_to_one_is_told_apart(p: float, is_finite: bool) -> None:
    assert of_kernel("log", p=p) is is_finite


@pytest.mark.parametrize("name", kernels.names())
def test_what_kernels_say_of_themselves(name: str) -> None:
    says = kernels.get(name).summable
    if says == "never":
        assert not of_kernel(name)
    elif says.startswith("always") or says in ("r > 0", "gamma < 1", "g > 0", "delta > 0, or gamma > 0, or beta > 1"):
        # Their parameters start positive.
        assert of_kernel(name)
