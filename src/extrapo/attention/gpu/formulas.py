"""Formulas: what a bias's kernels are generated from, by a name that says what they compute.

While PyTorch's compiler looks on, objects are made that never come to be: what it is given here are classes, functions
and numbers, from which the formula is made again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.gpu.by_distances import of_distances
from extrapo.attention.gpu.by_keys import of_keys
from extrapo.attention.gpu.by_queries import of_queries
from extrapo.attention.gpu.forward import forward
from extrapo.attention.gpu.source import Reading
from extrapo.attention.recorded.formula import Formula, record_formula
from extrapo.attention.recorded.kinds import Kind, kind, line_formula
from extrapo.attention.recorded.private import constant
from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.logit import Logit
from extrapo.encodings.core.turned import turned_rows

#: What every generated file begins with.
HEADER = """import triton
import triton.language as tl

from extrapo.attention.gpu.primitives import LOG2_E, dot, dot_onto, exp, inverse, log, power, sign
from extrapo.attention.gpu.primitives import keep, numbers, tokens
from extrapo.attention.gpu.turned import apart, turned_back, turned_scores

"""


@dataclass(frozen=True)
class Recorded:
    """A formula with what is known of its factors: see Reading."""

    formula: Formula
    kinds: tuple[Kind, ...]
    wide: bool
    turned: bool

    def source(self, trained: tuple[bool, ...], levels: int) -> str:
        """The kernels for these trained factors, under so many windows."""
        reading = Reading(self.formula, self.kinds, self.wide, trained, levels, self.turned)
        kernels = [forward, of_queries, of_keys]
        if reading.trained_of(Kind.LINE) or reading.trained_turns:
            kernels.append(of_distances)
        return HEADER + "\n".join(make(reading) for make in kernels)


#: By name.
_recorded: dict[str, Recorded] = {}


def recorded(name: str) -> Recorded:
    """The formula of a name that `name_of` gave."""
    return _recorded[name]


def pieces(logit: Logit) -> tuple[Any, ...]:
    """The class of a formula, and its fields."""
    values = (getattr(logit, one) for one in logit.__dataclass_fields__)  # type: ignore[attr-defined]
    return type(logit), *(pieces(value) if isinstance(value, Logit) else value for value in values)


def whole(made_of: tuple[Any, ...]) -> Logit:
    """The formula of such pieces."""
    cls, *values = made_of
    return cls(*(whole(x) if isinstance(x, tuple) and isinstance(x[0], type) else x for x in values))  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def attempt(made_of: tuple[Any, ...], kinds: tuple[int, ...], wide: bool, turned: bool) -> tuple[str, str]:
    """The name of a formula, empty where there are no kernels of it; and why there are none."""
    try:
        # What is recorded is whatever somebody wrote.
        with torch.inference_mode(False), torch.no_grad():
            formula = record_formula(whole(made_of), torch.float32, (True,) * len(kinds))
        found = Recorded(formula, tuple(map(Kind, kinds)), wide, turned)
        text = found.source((True,) * (len(kinds) + turned), 1)
    except Exception as cause:
        return "", f"the formula has no kernel: {next(iter(str(cause).splitlines()), type(cause).__name__)}"
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    _recorded.setdefault(name, found)
    return name, ""


@constant
def name_of(made_of: tuple[Any, ...], kinds: tuple[int, ...], wide: bool, turned: bool) -> str:
    """The name of a formula that has kernels.

    Args:
        made_of: `pieces` of it.
        kinds, wide, turned: see Reading.
    """
    return attempt(made_of, kinds, wide, turned)[0]


@constant
def refusal(made_of: tuple[Any, ...], kinds: tuple[int, ...], wide: bool, turned: bool) -> str:
    """Why a formula has no kernels, in a line; empty where it has."""
    return attempt(made_of, kinds, wide, turned)[1]


@dataclass(frozen=True)
class Factors:
    """What the kernels read of a bias.

    Args:
        made_of, kinds, wide, turned: see `name_of`.
        tensors: (B or 1, H or 1, T or 1, S or 1) each in float32; where `wide`, the first ones are positions, (B or 1,
            H or 1, N) in their own dtype: of queries and keys, or one of both where these are the same. Where `turned`,
            the last two are the turns (1, H, 1, S), as the last query has them, and their frequencies (F,).
    """

    made_of: tuple[Any, ...]
    kinds: tuple[int, ...]
    wide: bool
    tensors: tuple[Tensor, ...]
    turned: bool = False

    @classmethod
    def of(cls, bias: Bias) -> Factors:
        """Those of a bias for a whole text: a line, where its formula is known to be one of the distance alone, and no
        function of single numbers, or beside turns, which are a line as well.
        """
        if (rows := turned_rows(bias)) is None:
            assert isinstance(bias, Elementwise)
            return cls.of_formula(bias, not bias.pointwise())
        host, turns = cls.of_formula(rows.host, True), rows.line_of_turns()
        assert turns is not None
        return cls(host.made_of, host.kinds, host.wide, (*host.tensors, turns, rows.theta), True)

    @classmethod
    def of_formula(cls, bias: Elementwise, as_line: bool) -> Factors:
        """Those of the formula, by lines where that is asked for and possible."""
        if as_line and bias.known_toeplitz() and (line := bias.line()) is not None:
            of_line, numbers = line_formula(line, bias.shape[3])
            tensors = tuple(x.to(torch.float32) for x in numbers)
            return cls(pieces(of_line), (int(Kind.LINE),) * len(tensors), False, tensors)
        if (wide := bias.wide_formula()) is None:
            tensors = tuple(x.to(torch.float32) for x in bias.factors(slice(0, bias.shape[2])))
            return cls(pieces(bias.logit), tuple(int(kind(x)) for x in tensors), False, tensors)
        logit, (queries, keys, *others) = wide
        both = (keys,) if queries is keys else (queries, keys)
        positions = tuple(x if x.dtype.itemsize >= 4 else x.to(torch.float32) for x in both)
        rest = tuple(x.to(torch.float32) for x in others)
        kinds = (int(Kind.ROW), int(Kind.COLUMN), *(int(kind(x)) for x in rest))
        return cls(pieces(logit), kinds, True, (*positions, *rest))

    @classmethod
    def refusal(cls, bias: Bias) -> str:
        """Why a bias has no kernels, in a line; empty where it has. Nothing is computed of the turns."""
        rows = turned_rows(bias)
        found = cls.of(bias) if rows is None else cls.of_formula(rows.host, True)
        return refusal(found.made_of, found.kinds, found.wide, rows is not None)

    @property
    def name(self) -> str:
        """That of the formula, see `name_of`."""
        return name_of(self.made_of, self.kinds, self.wide, self.turned)

    @property
    def trained(self) -> str:
        """Of each of the formula's factors, and of turns, 1 where it gets gradients and 0 where not."""
        places = tensor_of_factor(len(self.tensors) - self.turned, len(self.kinds) + self.turned)
        return "".join(str(int(self.tensors[n].requires_grad)) for n in places)


def tensor_of_factor(tensors: int, factors: int) -> tuple[int, ...]:
    """Which tensor each factor is: the first two are one where there is one less."""
    return tuple(range(factors)) if tensors == factors else (0, *range(factors - 1))
