"""Tasks: Python and C++ have one layout of them, and lines of turns are exact far out and end in zeros."""

from __future__ import annotations

import ctypes
import math

import pytest
import torch
from outcomes import HEAD_DIM, HEADS, draw

from extrapo.attention.cpu.factors import Factors
from extrapo.attention.cpu.library import library
from extrapo.attention.cpu.source import declarations, read
from extrapo.attention.cpu.task import BEYOND, ROWS, Factor, Task, Tensors, Tokens, Turned, layout
from extrapo.attention.recorded.kinds import Kind
from extrapo.encodings import Visibility
from extrapo.encodings.core.logit import AddedTile


@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("factors", [0, 3])
def test_both_languages_have_one_layout(factors: int) -> None:
    structure = layout(factors)
    names = [name for name, _ in structure._fields_]  # type: ignore[misc]
    offsets = ", ".join(f"offsetof(Task, {name})" for name in names)
    kinds = (Kind.ROW,) * factors
    parts = [
        read("fast_math.h"),
        "#include <cstddef>",
        declarations(torch.float32, kinds, (True,) * factors),
        read("tiles.h"),
    ]
    parts.append(f"""
extern "C" void places(long *out) {{
    const long found[] = {{ {offsets}, sizeof(Task), ROWS }};
    memcpy(out, found, sizeof(found));
}}""")
    found = (ctypes.c_long * (len(names) + 2))()
    library("\n".join(parts)).places(found)
    *places, size, rows = found
    assert dict(zip(names, places, strict=True)) == {name: getattr(structure, name).offset for name in names}
    assert size == ctypes.sizeof(structure)
    assert rows == ROWS


def test_tensors_by_their_places() -> None:
    x = draw(2, 5, HEADS, 4).transpose(1, 2)
    tokens = Tokens.of(x)
    assert (tokens.data, tokens.batch, tokens.head, tokens.token) == (x.data_ptr(), *x.stride()[:3])
    # One for all texts, or all heads, is the same number again.
    factor = Factor.of(draw(1, HEADS, 5, 1))
    assert (factor.batch, factor.head) == (0, 5)
    factor = Factor.of(draw(2, 1, 1, 5))
    assert (factor.batch, factor.head) == (5, 0)


@pytest.mark.parametrize(("seen", "window", "sinks"), [(None, 12, 0), (Visibility(5, 2), 5, 2)])
def test_what_a_task_holds(seen: Visibility | None, window: int, sinks: int) -> None:
    q, k, v = draw(2, HEADS, 9, HEAD_DIM), draw(2, HEADS, 12, HEAD_DIM), draw(2, HEADS, 12, 3)
    factors = Factors(AddedTile(), (draw(1, 1, 9, 1).requires_grad_(), draw(1, 1, 1, 12)), (Kind.ROW, Kind.COLUMN))
    out, lse = draw(2, HEADS, 9, 3), draw(2, HEADS, 9)
    forward = Task(factors, Tensors(q, k, v, out, lse), 0.5, seen)
    assert forward.parts == 2 * HEADS
    assert forward.received == []
    c = forward.task
    assert (c.batch, c.heads, c.queries, c.keys, c.width, c.values) == (2, HEADS, 9, 12, HEAD_DIM, 3)
    assert (c.window, c.sinks, c.scale, c.next) == (window, sinks, 0.5, 0)
    dk, dv = draw(6, HEADS, 12, HEAD_DIM), draw(6, HEADS, 12, 3)
    backward = Task(factors, Tensors(q, k, v, out, lse, out, q, dk, dv), 0.5, seen, groups=3)
    assert backward.parts == 2 * HEADS * 3
    assert [x.shape for x in backward.received] == [(3, 2, HEADS, 9)], "of what is trained alone"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_turns_far_out_keep_their_digits(dtype: torch.dtype) -> None:
    """A phase of a million rounds, reduced before it is rounded; zeros behind the last key for whole vectors."""
    length, theta = 200, torch.tensor([1.0, 0.01, 3.7], dtype=dtype)
    turns = 1e6 + 1e3 * draw(1, HEADS, 1, length)
    found = Turned.of(turns, theta, dtype)
    phase = turns.view(HEADS, 1, length) * theta.double().view(-1, 1)
    for got, expected in ((found.cos, phase.cos()), (found.sin, phase.sin())):
        assert got.dtype == dtype
        assert got.shape[:2] == (HEADS, 3)
        assert got.size(-1) >= length + BEYOND - 16
        assert got.is_contiguous()
        bound = 1e-9 if dtype == torch.float64 else 5e-7
        torch.testing.assert_close(got[..., :length].double(), expected, rtol=0, atol=bound)
        assert not got[..., length:].any()
    assert math.isclose(float(found.theta[2]), 3.7, rel_tol=1e-6)
