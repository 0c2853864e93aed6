"""The machine code of the generated kernels, for cards that are not here."""

from __future__ import annotations

import pytest
import torch
from exact import distances, trained

from extrapo.encodings.core.distance import Order

pytestmark = [pytest.mark.usefixtures("compiler"), pytest.mark.timeout(900)]

#: Shared memory of a block, in bytes, at most.
SHARED = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}

#: Products of matrices: of a warp, or of a warp group.
TENSOR_CORES = "HMMA|HGMMA"

KERNELS = ("forward", "of_queries", "of_keys")


def check(name: str, order: Order | None, kernel: str, width: int, capability: int) -> None:
    from extrapo.attention.gpu.ahead import compile_ahead
    from extrapo.attention.gpu.formulas import Factors, name_of

    factors = Factors.of(trained(distances(name, queries=8, keys=8, order=order)), 8)
    formula = name_of(factors.made_of, factors.kinds, factors.wide)
    code = compile_ahead(formula, factors.trained, 0, kernel, width=width, dtype=torch.bfloat16, capability=capability)
    # Each product once in a tile, in two loops; none by a core's own multiplications.
    assert code.count(TENSOR_CORES) >= 4
    assert not code.count(r"RED\b|ATOM")
    assert code.spills <= 16
    assert code.shared <= SHARED[capability]
    # The logarithm is an instruction, and not a polynomial.
    assert code.count("MUFU.EX2") >= 1


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_code_of_one_kernel(kernel: str) -> None:
    check("cauchy-log", None, kernel, 64, 80)


@pytest.mark.chaos
@pytest.mark.parametrize("capability", [80, 89, 90])
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("name", "order"), [("linear", None), ("cauchy-log", None)])
def test_the_code_for_every_card(name: str, order: Order | None, kernel: str, width: int, capability: int) -> None:
    check(name, order, kernel, width, capability)


@pytest.mark.slow
def test_a_logarithm_is_an_instruction() -> None:
    from extrapo.attention.gpu.ahead import compile_ahead
    from extrapo.attention.gpu.formulas import Factors, name_of

    factors = Factors.of(trained(distances("log", queries=8, keys=8)), 8)
    formula = name_of(factors.made_of, factors.kinds, factors.wide)
    code = compile_ahead(formula, factors.trained, 0, "forward", width=64, dtype=torch.bfloat16, capability=80)
    assert code.count("MUFU.LG2") >= 1
    assert code.spills <= 16
