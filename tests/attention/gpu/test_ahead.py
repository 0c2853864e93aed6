"""The machine code of the generated kernels, for cards that are not here."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from exact import damped, distances, tabled, trained, turned

from extrapo import encodings
from extrapo.encodings import Elementwise

if TYPE_CHECKING:
    from extrapo.attention.gpu.ahead import MachineCode
    from extrapo.attention.gpu.formulas import Factors

pytestmark = [pytest.mark.usefixtures("compiler"), pytest.mark.timeout(900)]

slow, chaos = pytest.mark.slow, pytest.mark.chaos
many = (slow, pytest.mark.kernels)

#: Shared memory of a block, in bytes, at most.
SHARED = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}

#: Products of matrices: of a warp, or of a warp group.
TENSOR_CORES = "HMMA|HGMMA"

KERNELS = ("forward", "of_queries", "of_keys")

#: Instructions of the inner loop of a hand-written prototype on sm_90, width 64, tiles of 8,192 pairs, 8 warps.
PROTOTYPE = {"cauchy-log": (499, 718, 740)}

#: ... and under a line of distances; where the prototype was not compiled, those of flash-linear-attention's forgetting
#: attention (0.6.0) for the same tiles, by the same compiler: that of keys has 32 queries there.
LINEAR = {80: (477, 537, 377), 89: (477, 548, 380), 90: (467, 503, 601)}
SHARE = 1.15

#: The case of a line that is compiled in every run.
EVERY_RUN = ("cable", "forward", 80)


def compiled(name: str, kernel: str, width: int, capability: int) -> MachineCode:
    """A kernel of a distance with all of it trained, as auto compiles it."""
    from extrapo.attention.gpu.ahead import compile_ahead
    from extrapo.attention.gpu.formulas import Factors

    line = kernel == "of_distances"
    made = tabled(name, queries=8, keys=8) if line else distances(name, queries=8, keys=8)
    factors = Factors.of(trained(made, positions=not line))
    return compile_ahead(
        factors.name, factors.trained, 0, kernel, width=width, dtype=torch.bfloat16, capability=capability
    )


def check(code: MachineCode, capability: int) -> None:
    """On tensor cores, by no core's own multiplications, with nothing added up in memory, and in the card's room."""
    assert code.count(TENSOR_CORES) >= 4
    assert not code.count(r"RED\b|ATOM")
    assert code.spills <= 16
    assert code.shared <= SHARED[capability]
    # An exponential is an instruction, and not a polynomial.
    assert code.count("MUFU.EX2") >= 1


@pytest.mark.parametrize(
    "kernel", [pytest.param("forward", marks=slow), *(pytest.param(k, marks=many) for k in KERNELS[1:])]
)
def test_the_code_of_one_kernel(kernel: str) -> None:
    """K-Cable's, whose inner loop is as short as the prototype's."""
    code = compiled("cauchy-log", kernel, 64, 90)
    check(code, 90)
    loop = code.inner_loop(TENSOR_CORES)
    assert len(loop) <= SHARE * PROTOTYPE["cauchy-log"][KERNELS.index(kernel)]
    # A weight is an exponential and a quotient; what is measured from nearby is so before it is rounded.
    assert any("DADD" in one for one in loop)
    assert not any("STL" in one or "LDL" in one for one in loop)


@lru_cache
def inner_loop(name: str, trained: str, kernel: str, capability: int) -> int:
    """Instructions of a formula's, at width 64."""
    from extrapo.attention.gpu.ahead import compile_ahead

    code = compile_ahead(name, trained, 0, kernel, width=64, dtype=torch.bfloat16, capability=capability)
    check(code, capability)
    return len(code.inner_loop(TENSOR_CORES))


def layer_factors(name: str) -> Factors:
    """What the kernels of a layer read that is trained."""
    from extrapo.attention.gpu.formulas import Factors

    made = encodings.create(name, heads=2, head_dim=16, dim=32)
    encoded = made.encode(*torch.zeros(3, 1, 2, 8, 16).requires_grad_(), x=torch.zeros(1, 8, 32))
    assert isinstance(encoded.bias, Elementwise)
    return Factors.of(encoded.bias)


CASES = [
    pytest.param(name, kernel, capability, marks=many if (name, kernel, capability) == EVERY_RUN else chaos)
    for name in ("cable", "fox", "alibi")
    for kernel in KERNELS
    for capability in LINEAR
]
# A gate and a clock of each query: two sums of a row more.
CASES += [pytest.param("cable-weighted", "of_queries", capability, marks=chaos) for capability in LINEAR]


@pytest.mark.parametrize(("name", "kernel", "capability"), CASES)
def test_the_inner_loop_of_a_line_of_distances(name: str, kernel: str, capability: int) -> None:
    """As a layer trains it: under Cable and FoX a token's clock, under Cable's third version a gate too, under ALiBi
    nothing.
    """
    factors = layer_factors(name)
    found = inner_loop(factors.name, factors.trained, kernel, capability)
    assert found <= SHARE * LINEAR[capability][KERNELS.index(kernel)]


#: The case of planes that turn that is compiled in every run.
EVERY_TURNED = ("of_queries", 64, 90)
TURNED = [
    pytest.param(*case, marks=slow if case == EVERY_TURNED else chaos)
    for case in product((*KERNELS, "of_distances"), (64, 128), SHARED)
]

#: Loops over frequencies: of scores, and going backward of what they give back, for each kind of tile.
LOOPS = {"forward": 2, "of_queries": 4, "of_keys": 6}


@pytest.mark.parametrize(("kernel", "width", "capability"), TURNED)
def test_the_code_of_planes_that_turn(kernel: str, width: int, capability: int) -> None:
    """Adaptive's default, all of it trained: a loop over frequencies of little but its own products and loads."""
    from extrapo.attention.gpu.ahead import compile_ahead
    from extrapo.attention.gpu.formulas import Factors
    from extrapo.attention.gpu.tuning import blocks

    factors = Factors.of(trained(turned(damped(tabled("three-term", queries=8, keys=8))), positions=False))
    dtype = torch.bfloat16
    code = compile_ahead(factors.name, factors.trained, 0, kernel, width=width, dtype=dtype, capability=capability)
    check(code, capability)
    if kernel == "of_distances" or width > 64:
        return
    sizes = blocks(kernel, width, dtype, capability, turned=True)
    pairs = sizes.queries * sizes.keys // (32 * sizes.warps)
    loops = [loop for loop in code.loops if not any(re.search(TENSOR_CORES, one) for one in loop) and len(loop) > pairs]
    assert len(loops) == LOOPS[kernel]
    for loop in loops:
        # A pair has six products, and reads two numbers of lines.
        assert len(loop) <= 12 * pairs
        # Nothing goes from thread to thread there, or waits for others.
        assert not any(re.search("SHFL|BAR|STS|LDS", one) for one in loop)


@pytest.mark.chaos
@pytest.mark.parametrize("capability", [80, 89, 90])
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize(
    ("name", "kernel"),
    [(name, kernel) for name in ("linear", "cauchy-log") for kernel in KERNELS] + [("clip-table", "of_distances")],
)
def test_the_code_for_every_card(name: str, kernel: str, width: int, capability: int) -> None:
    check(compiled(name, kernel, width, capability), capability)


@pytest.mark.slow
@pytest.mark.kernels
def test_a_logarithm_is_an_instruction() -> None:
    code = compiled("log", "forward", 64, 80)
    assert code.count("MUFU.LG2") >= 1
    assert code.spills <= 16


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("kernel", ["sums", "gradients"])
def test_a_clock_compiles(kernel: str) -> None:
    """Its sums are wide."""
    from extrapo.attention.gpu.ahead import compile_clock

    code = compile_clock("log-sigmoid", kernel, capability=80)
    assert code.count("DADD") >= 1
    assert not code.count(r"RED\b|ATOM")
    assert code.spills <= 16
