"""Source: what the generated kernels have in common: which factors they read, the formula, what a query sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import NamedTuple

from extrapo.attention.gpu.expressions import Expressions
from extrapo.attention.recorded.formula import Formula
from extrapo.attention.recorded.kinds import Kind

#: Rows and columns of positions come in two parts each, see `Reading.of_rows`.
PARTS = 2


class Weights(NamedTuple):
    """Statements of a tile's logits, a - ln b - ..., and the names of a and of b, ..."""

    lines: str
    logit: str
    divisors: list[str]


class Derivatives(NamedTuple):
    """Statements of a logit's derivatives, and their names: by the score, and by trained factors."""

    lines: str
    score: str
    factors: dict[int, str]


@dataclass(frozen=True)
class Reading:
    """A formula, and how a kernel reads what it is a function of.

    Args:
        formula: as recorded, with derivatives by all of its factors.
        kinds: of the formula's factors.
        wide: the first two, a position of each query and the negative one of each key, come as two numbers each, whose
            sum has the digits of a wide one. They are measured from the tile's first token before they are added up.
        trained: which of the formula's factors get gradients.
        levels: how many windows, one within the other, limit what is seen.
    """

    formula: Formula
    kinds: tuple[Kind, ...]
    wide: bool
    trained: tuple[bool, ...]
    levels: int

    # -- arguments ---------------------------------------------------------------------------------------------------

    @property
    def tensors(self) -> list[str]:
        """Pointers of the factors as they are passed, by name."""
        return [name for n in range(len(self.kinds)) for name in self.parts(n)]

    def parts(self, n: int) -> list[str]:
        """The pointers of the formula's factor n."""
        return [f"F{n}", f"F{n}r"] if self.wide and n < PARTS else [f"F{n}"]

    def of_kinds(self, *kinds: Kind) -> list[int]:
        """The formula's factors of these kinds."""
        return [n for n, kind in enumerate(self.kinds) if kind in kinds]

    def trained_of(self, *kinds: Kind) -> list[int]:
        """Those that get gradients."""
        return [n for n in self.of_kinds(*kinds) if self.trained[n]]

    def signature(self) -> str:
        """The arguments of a kernel about factors: pointers and the strides of batch and head, then windows."""
        factors = [f"{argument(name)}, {name}_batch, {name}_head" for name in self.tensors]
        return "".join(f"{x}, " for x in [*factors, *self.windows])

    @property
    def windows(self) -> list[str]:
        """Arguments that say what is seen: of all windows the narrowest, and the most sinks; then of each."""
        if not self.levels:
            return []
        return ["near", "sinks", *(f"{name}{n}" for n in range(self.levels) for name in ("window", "sinks"))]

    # -- statements --------------------------------------------------------------------------------------------------

    def move_pointers(self) -> str:
        """Pointers to the numbers of this batch and head; numbers of the head are read."""
        lines = [f"{name} = {argument(name)} + batch * {name}_batch + head * {name}_head" for name in self.tensors]
        # A tile of one number: with one that is no tile at all, the interpreter has no logic.
        lines += [f"f{n} = tl.load(F{n} + tl.zeros((1, 1), tl.int32))" for n in self.of_kinds(Kind.NUMBER)]
        return "\n".join(lines)

    def origin(self, first: str, kind: Kind) -> str:
        """The position that others are measured from: that of the tile's first query, or key."""
        if not self.wide:
            return ""
        n, sign = (0, "") if kind == Kind.ROW else (1, "-")
        return f"origin = {sign}tl.load(F{n} + {first})\norigin_r = {sign}tl.load(F{n}r + {first})"

    def read(self, kind: Kind, at: str, end: str, checked: str, axis: str) -> str:
        """Factors of rows, or of columns, of a tile, as they broadcast with it.

        Args:
            kind: which.
            at, end: the tokens, and where they end.
            checked: whether some may lie behind it.
            axis: what makes a row or a column of a vector, `[:, None]` or `[None, :]`.
        """
        lines = []
        for n in self.of_kinds(kind):
            values = [f"numbers({name}, {at}, {end}, {checked})" for name in self.parts(n)]
            if len(values) > 1:
                sign = "-" if kind == Kind.ROW else "+"
                values = [f"(({values[0]} {sign} origin) + ({values[1]} {sign} origin_r))"]
            lines.append(f"f{n} = {values[0]}{axis}")
        return "\n".join(lines)

    def passed(self, *kinds: Kind) -> list[str]:
        """What a tile's function is given of factors: what is read before its loop, and pointers of the rest."""
        origins = ["origin", "origin_r"] if self.wide else []
        ready = [f"f{n}" for n in self.of_kinds(Kind.NUMBER, *kinds)]
        others = [n for n in self.of_kinds(Kind.ROW, Kind.COLUMN) if self.kinds[n] not in kinds]
        return [*ready, *origins, *(name for n in others for name in self.parts(n))]

    def weights(self) -> Weights:
        """Of the names `score` and f0, f1, ..."""
        lines = Expressions()
        logit, *divisors = lines.run(self.formula.terms, ["score", *self.factors])
        return Weights("\n".join(lines.statements), logit, divisors)

    def derivatives(self, *kinds: Kind) -> Derivatives:
        """By the score and by trained factors of these kinds, where the weights' statements have been made."""
        lines = Expressions()
        lines.run(self.formula.terms, ["score", *self.factors])
        before = len(lines.statements)
        score, *rest = lines.run(self.formula.gradients, ["score", *self.factors, "1.0"])
        wanted = {n: rest[n] for n in self.trained_of(*kinds)}
        return Derivatives(needed(lines.statements[before:], [score, *wanted.values()]), score, wanted)

    @property
    def factors(self) -> list[str]:
        """Their names."""
        return [f"f{n}" for n in range(len(self.kinds))]

    def seen(self, place: str, key: str) -> str:
        """Whether queries at places of the text see keys, which broadcast."""
        limits = [f"(({place} - {key} < window{n}) | ({key} < sinks{n}))" for n in range(self.levels)]
        return " & ".join([f"({place} >= {key})", *limits])


def argument(name: str) -> str:
    """What a kernel is given as the pointer to a factor of all batches and heads."""
    return f"All{name}"


def needed(statements: Sequence[str], results: Sequence[str]) -> str:
    """The statements that results come of."""
    wanted, kept = set(results), []
    for statement in reversed(statements):
        name, _, expression = statement.partition(" = ")
        if name in wanted:
            kept.append(statement)
            wanted |= set(expression.replace("(", " ").replace(")", " ").replace(",", " ").replace("-", " ").split())
    return "\n".join(reversed(kept))


def filled(template: str, **blocks: str) -> str:
    """A template whose `{{name}}` are blocks, indented as they stand there; empty ones leave no line."""
    lines = []
    for line in template.splitlines():
        stripped = line.strip()
        if stripped.startswith("{{") and stripped.endswith("}}") and stripped.count("{{") == 1:
            block = blocks[stripped[2:-2]]
            lines += [indent(block, line[: len(line) - len(line.lstrip())])] if block else []
            continue
        for name, block in blocks.items():
            line = line.replace("{{" + name + "}}", block)
        lines.append(line)
    return "\n".join(lines) + "\n"
