"""Sources: the same for the same formula, whoever writes it, and another for all that is another."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch

from extrapo.attention.cpu.compiled_attention import compiled
from extrapo.attention.cpu.source import source
from extrapo.attention.recorded.formula import Formula, record_formula
from extrapo.attention.recorded.kinds import Kind
from extrapo.encodings.core.distance import DistanceLogit
from extrapo.kernels import kernels


def formula(dtype: torch.dtype = torch.float32, trained: tuple[bool, ...] = (True, True, True)) -> Formula:
    """K-Cable's, of two positions and a parameter."""
    return record_formula(DistanceLogit(kernels.get("log").phi), dtype, (*trained, True))


KINDS = (Kind.ROW, Kind.COLUMN, Kind.NUMBER, Kind.NUMBER)

TRAINED = (True,) * 4


def test_a_formula_has_one_source() -> None:
    assert source(formula(), torch.float32, KINDS, TRAINED) == source(formula(), torch.float32, KINDS, TRAINED)


@pytest.mark.slow
def test_another_process_writes_the_same() -> None:
    """No address, no order of a hash: a library is found by it."""
    code = f"""
import torch
from extrapo.attention.recorded.formula import record_formula
from extrapo.attention.cpu.source import source
from extrapo.attention.recorded.kinds import Kind
from extrapo.encodings.core.distance import DistanceLogit
from extrapo.kernels import kernels
kinds = (Kind.ROW, Kind.COLUMN, Kind.NUMBER, Kind.NUMBER)
formula = record_formula(DistanceLogit(kernels.get("log").phi), torch.float32, {TRAINED})
print(source(formula, torch.float32, kinds, {TRAINED}), end="")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == source(formula(), torch.float32, KINDS, TRAINED)


def test_what_makes_another_source() -> None:
    single, double = formula(), formula(torch.float64)
    partly = formula(trained=(True, False, True))
    found = [
        source(single, torch.float32, KINDS, TRAINED),
        source(single, torch.float32, KINDS, TRAINED, turned=True),
        source(double, torch.float64, KINDS, TRAINED),
        source(single, torch.float32, (Kind.NUMBER, *KINDS[1:]), TRAINED),
        source(partly, torch.float32, KINDS, (True, False, True, True)),
    ]
    assert all(one != other for one, other in itertools.combinations(found, 2))


def test_what_a_file_begins_with_is_needed_before() -> None:
    """C++ reads from above: the formula's types, its loops, what is made of them."""
    text = source(formula(), torch.float32, KINDS, TRAINED)
    names = ("typedef float real", "FACTORS = 4", "real weights(", "real largest(", "void gradients(", "struct Task")
    places = [text.index(name) for name in (*names, "class Sums", "class Scores", "void attention_forward")]
    assert places == sorted(places)


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("turned", [False, True])
def test_any_kinds_can_be_compiled(turned: bool) -> None:
    """Each kind, trained or not, beside scores of both kinds."""
    logit = DistanceLogit(kernels.get("log").phi)
    kinds = (Kind.LINE, Kind.ROW, Kind.COLUMN, Kind.NUMBER)
    for trained in ((True, False, True, False), (False, True, False, True)):
        assert compiled(logit, torch.float32, kinds, trained, turned).attention_backward
