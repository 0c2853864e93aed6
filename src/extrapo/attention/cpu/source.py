"""Source: a recorded formula as C++, three loops over the keys of a row.

    weights     e^(logit - shift) in place of the scores; their sum
    largest     the largest logit
    gradients   weights in place of scores, and the gradients of scores in place of those of weights; adds up those of
                trained factors

Compilers make vectors of such loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from extrapo.attention.cpu.operators import Lines
from extrapo.attention.recorded.formula import Formula
from extrapo.attention.recorded.kinds import Kind

TYPES = {torch.float32: "float", torch.float64: "double"}


def source(
    formula: Formula,
    dtype: torch.dtype,
    kinds: Sequence[Kind],
    trained: Sequence[bool],
    *,
    turned: bool = False,
    row: bool = False,
) -> str:
    """All of attention under a formula, as one file.

    Args:
        formula: of so many factors.
        dtype: of all numbers, single or double precision.
        kinds: of its factors.
        trained: which of them get gradients.
        turned: scores turn with the distance.
        row: of one query besides.

    Raises:
        NoCounterpart: an operation that has no counterpart here.
    """
    parts = [
        read("fast_math.h"),
        declarations(dtype, kinds, trained),
        weights(formula, kinds),
        largest(formula, kinds),
        gradients(formula, kinds, trained),
        *map(read, ("tiles.h", "factors.h", "turned.h" if turned else "dot.h", "attention.cpp")),
        read("row.cpp") if row else "",
    ]
    return "\n".join(parts)


def read(name: str) -> str:
    """A file of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def declarations(dtype: torch.dtype, kinds: Sequence[Kind], trained: Sequence[bool]) -> str:
    """What the rest of the file reads of the factors; one more than there are, for a list must not be empty."""
    return f"""
typedef {TYPES[dtype]} real;
enum Kind {{ {", ".join(kind.name for kind in Kind)} }};
static const long FACTORS = {len(kinds)};
static const Kind KINDS[] = {{ {", ".join(kind.name for kind in (*kinds, Kind.NUMBER))} }};
static const bool TRAINED[] = {{ {", ".join("true" if t else "false" for t in (*trained, False))} }};
"""


def of_one_pair(kinds: Sequence[Kind]) -> list[str]:
    """The factors, as they are called inside of a loop over j."""
    return [f"f{n}" if kind <= Kind.ROW else f"f{n}[j]" for n, kind in enumerate(kinds)]


def pointers(kinds: Sequence[Kind]) -> str:
    """The factors as a loop finds them: a number, or where its numbers begin."""
    one, many = "const real f{0} = *factors[{0}];", "const real *f{0} = factors[{0}];"
    return "\n    ".join((one if kind <= Kind.ROW else many).format(n) for n, kind in enumerate(kinds))


def weights(formula: Formula, kinds: Sequence[Kind]) -> str:
    """e^(a - shift) / b / ... of terms a, b, ..."""
    lines = Lines()
    first, *divisors = lines.run(formula.terms, ["score", *of_one_pair(kinds)])
    power = " / ".join([f"exponential({first} - shift)", *divisors])
    return f"""
static real weights(real *__restrict scores, long length, const real *const *factors, real shift) {{
    {pointers(kinds)}
    real total = 0;
#pragma omp simd reduction(+ : total)
    for (long j = 0; j < length; ++j) {{
        const real score = scores[j];
        {lines}
        const real power = {power};
        scores[j] = power;
        total += power;
    }}
    return total;
}}
"""


def largest(formula: Formula, kinds: Sequence[Kind]) -> str:
    """Of a - ln b - ..."""
    lines = Lines()
    first, *divisors = lines.run(formula.terms, ["score", *of_one_pair(kinds)])
    logit = " - ".join([first, *(f"logarithm({divisor})" for divisor in divisors)])
    return f"""
static real largest(const real *__restrict scores, long length, const real *const *factors) {{
    {pointers(kinds)}
    real found = -INFINITY;
    for (long j = 0; j < length; ++j) {{
        const real score = scores[j];
        {lines}
        const real logit = {logit};
        found = logit > found ? logit : found;
    }}
    return found;
}}
"""


def gradients(formula: Formula, kinds: Sequence[Kind], trained: Sequence[bool]) -> str:
    """Weights anew, and what the softmax's Jacobian makes of their gradients: dS = P * (dP - rowsum(P * dP))."""
    lines = Lines()
    first, *divisors = lines.run(formula.terms, ["score", *of_one_pair(kinds)])
    power = " / ".join([f"exponential({first} - lse)", *divisors])
    after = Lines("y")
    of_score, *rest = after.run(formula.gradients, ["score", *of_one_pair(kinds), "g"])
    pairs = [
        (n, kind, x) for (n, kind), x in zip(((n, k) for n, k in enumerate(kinds) if trained[n]), rest, strict=True)
    ]
    sums = [n for n, kind, _ in pairs if kind <= Kind.ROW]
    reduction = f" reduction(+ : {', '.join(f's{n}' for n in sums)})" if sums else ""
    add = "\n        ".join(f"s{n} += {x};" if kind <= Kind.ROW else f"r{n}[j] += {x};" for n, kind, x in pairs)
    one, many = "real s{0} = 0;", "real *__restrict r{0} = into[{0}];"
    starts = [(one if kind <= Kind.ROW else many, n) for n, kind, _ in pairs]
    newline = "\n    "
    return f"""
static void gradients(real *__restrict scores, real *__restrict received, long length, const real *const *factors,
                      real lse, real delta, real *const *into) {{
    {pointers(kinds)}
    {newline.join(sums_of.format(n) for sums_of, n in starts)}
#pragma omp simd{reduction}
    for (long j = 0; j < length; ++j) {{
        const real score = scores[j];
        {lines}
        const real power = {power};
        const real g = power * (received[j] - delta);
        {after}
        scores[j] = power;
        received[j] = {of_score};
        {add}
    }}
    {newline.join(f"*into[{n}] += s{n};" for n in sums)}
}}
"""
