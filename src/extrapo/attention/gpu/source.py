"""Source: what the generated kernels have in common: which factors they read, the formula, what a query sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import NamedTuple

from extrapo.attention.gpu.expressions import Expressions
from extrapo.attention.gpu.scores import PLANES, PRODUCTS, Scores
from extrapo.attention.recorded.formula import Formula
from extrapo.attention.recorded.kinds import Kind

NAME = re.compile(r"[A-Za-z_]\w*")


class Weights(NamedTuple):
    """Statements of a tile's logits, a - ln b - ..., and the names of a and of b, ..."""

    lines: str
    logit: str
    divisors: list[str]


class Derivatives(NamedTuple):
    """Statements of a logit's derivatives, and their names: by the score, and by trained factors; and those factors by
    which it is the same for all keys of a row.
    """

    lines: str
    score: str
    factors: dict[int, str]
    still: list[int]


@dataclass(frozen=True)
class Reading:
    """A formula, and how a kernel reads what it is a function of.

    Args:
        formula: as recorded, with derivatives by all of its factors.
        kinds: of the formula's factors.
        wide: the first two are a position of each query and the negative one of each key: read as they are kept, wide,
            and measured from the tile's first token before they are rounded.
        trained: which of the formula's factors get gradients; where scores turn, and then whether the turns do.
        levels: how many windows, one within the other, limit what is seen.
        turned: scores turn with the distance.
    """

    formula: Formula
    kinds: tuple[Kind, ...]
    wide: bool
    trained: tuple[bool, ...]
    levels: int
    turned: bool = False

    @property
    def scores(self) -> Scores:
        """How they are made."""
        return PLANES if self.turned else PRODUCTS

    # -- arguments ---------------------------------------------------------------------------------------------------

    def of_kinds(self, *kinds: Kind) -> list[int]:
        """The formula's factors of these kinds."""
        return [n for n, kind in enumerate(self.kinds) if kind in kinds]

    def trained_of(self, *kinds: Kind) -> list[int]:
        """Those that get gradients."""
        return [n for n in self.of_kinds(*kinds) if self.trained[n]]

    @property
    def trained_turns(self) -> list[int]:
        """The turns, behind the formula's factors, where they get gradients."""
        return [len(self.kinds)] if self.turned and self.trained[-1] else []

    def signature(self, *kinds: Kind) -> str:
        """The arguments of a kernel about factors: pointers and strides of batch, head and token, then windows, turns,
        and what gradients of these kinds are written to.
        """
        factors = [f"AllF{n}, F{n}_batch, F{n}_head, F{n}_token" for n in range(len(self.kinds))]
        written = [*self.trained_of(*kinds), *(self.trained_turns if Kind.LINE in kinds else ())]
        return listed([*factors, *self.windows, *self.scores.arguments, *(f"G{n}" for n in written)])

    @property
    def windows(self) -> list[str]:
        """Arguments that say what is seen: of all windows the narrowest, and the most sinks; then of each."""
        if not self.levels:
            return []
        return ["near", "sinks", *(f"{name}{n}" for n in range(self.levels) for name in ("window", "sinks"))]

    def passed(self, kind: Kind) -> str:
        """What a tile's function is given: factors that are read before its loop, those of `kind` and numbers; pointers
        of the rest; windows.
        """
        ready = [f"f{n}" for n in self.of_kinds(Kind.NUMBER, kind)]
        rest = [n for n in range(len(self.kinds)) if f"f{n}" not in ready]
        origin = ["origin"] if self.wide else []
        return listed([*ready, *origin, *(f"F{n}, F{n}_token" for n in rest), *self.windows, *self.scores.passed])

    # -- statements --------------------------------------------------------------------------------------------------

    def move_pointers(self) -> str:
        """Pointers to the numbers of this batch and head; numbers of the head are read."""
        lines = [f"F{n} = AllF{n} + batch * F{n}_batch + head * F{n}_head" for n in range(len(self.kinds))]
        # A tile of one number: with one that is no tile at all, the interpreter has no logic.
        lines += [f"f{n} = tl.load(F{n} + tl.zeros((1, 1), tl.int32))" for n in self.of_kinds(Kind.NUMBER)]
        return "\n".join(filter(None, [*lines, self.scores.pointers]))

    def origin(self, first: str, kind: Kind) -> str:
        """The position that others are measured from: that of the tile's first query, or key."""
        n = 0 if kind == Kind.ROW else 1
        return f"origin = tl.load(F{n} + {first} * F{n}_token)" if self.wide else ""

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
            value = f"numbers(F{n}, {at}, F{n}_token, {end}, {checked})"
            if self.wide and n < 2:
                value = f"({value} - origin)" if n == 0 else f"(origin - {value})"
                value += ".to(tl.float32)"
            lines.append(f"f{n} = {value}{axis}")
        return "\n".join(lines)

    def read_lines(self, place: str, key: str) -> str:
        """Factors of distances, of a tile of places and keys: a line ends with that of no distance."""
        if not (lines := self.of_kinds(Kind.LINE)):
            return ""
        # What is out of the text, or of sight, has a number as well, whatever it is.
        at = f"at = tl.maximum(keys - 1 - tl.maximum({place} - {key}, 0), 0)"
        return "\n".join([at, *(f"f{n} = tl.load(F{n} + at * F{n}_token)" for n in lines)])

    def weights(self) -> Weights:
        """Of the names `score` and f0, f1, ..."""
        lines = Expressions()
        logit, *divisors = lines.run(self.formula.terms, ["score", *self.factors])
        return Weights("\n".join(lines.statements), logit, divisors)

    def weigh(self, lse: str) -> str:
        """The weights of a tile whose `score` is known and whose rows' sums are, as e^lse."""
        lines, logit, divisors = self.weights()
        weight = f"weight = tl.exp2({logit} * LOG2_E - {lse})"
        return "\n".join(filter(None, [lines, weight, divided(divisors)])) + "\n" + hidden("weight")

    def derivatives(self, *kinds: Kind) -> Derivatives:
        """By the score and by trained factors of these kinds, where the weights' statements have been made: d0, ... and
        of what is out of sight, where a formula may have none, 0.

        What moves all logits of a row alike moves no weight, and nothing is added up of it: a query's own position,
        where the kernel is linear.
        """
        lines = Expressions()
        lines.run(self.formula.terms, ["score", *self.factors])
        before = len(lines.statements)
        score, *rest = lines.run(self.formula.gradients, ["score", *self.factors, "1.0"])
        by_key = reached(lines.statements, ["score", *(f"f{n}" for n in self.of_kinds(Kind.COLUMN, Kind.LINE))])
        still = [n for n in self.trained_of(*kinds) if self.kinds[n] <= Kind.ROW and rest[n] not in by_key]
        wanted = {n: rest[n] for n in self.trained_of(*kinds) if n not in still}
        statements = [needed(lines.statements[before:], [score, *wanted.values()])]
        statements += [f"d{n} = {name}\n{hidden(f'd{n}')}" for n, name in wanted.items()]
        return Derivatives("\n".join(filter(None, statements)), score, {n: f"d{n}" for n in wanted}, still)

    def of_score(self) -> str:
        """The gradient of scores from that of logits, where the derivatives' statements have been made."""
        if (derivative := self.derivatives().score) == "1.0":
            return "of_score = of_logit"
        return f"of_score = of_logit * {derivative}\n{hidden('of_score')}"

    @property
    def factors(self) -> list[str]:
        """Their names."""
        return [f"f{n}" for n in range(len(self.kinds))]

    def seen(self, place: str, key: str) -> str:
        """Whether queries at places of the text see keys, which broadcast."""
        limits = [f"(({place} - {key} < window{n}) | ({key} < sinks{n}))" for n in range(self.levels)]
        return " & ".join([f"({place} >= {key})", *limits])


def divided(divisors: Sequence[str]) -> str:
    """Weights over the arguments of logarithms."""
    return "\n".join(f"weight = weight * inverse({divisor})" for divisor in divisors)


def hidden(name: str) -> str:
    """What is out of sight, and may be anything, becomes 0."""
    return f"if CHECKED:\n    {name} = tl.where(seen, {name}, 0.0)"


def listed(arguments: Iterable[str]) -> str:
    """Arguments, and a comma after each."""
    return "".join(f"{argument}, " for argument in arguments)


def needed(statements: Sequence[str], results: Sequence[str]) -> str:
    """The statements that results come of."""
    wanted, kept = set(results), []
    for statement in reversed(statements):
        name, _, expression = statement.partition(" = ")
        if name in wanted:
            kept.append(statement)
            wanted |= set(NAME.findall(expression))
    return "\n".join(reversed(kept))


def reached(statements: Sequence[str], names: Iterable[str]) -> set[str]:
    """What comes of these names, themselves included."""
    found = set(names)
    for statement in statements:
        name, _, expression = statement.partition(" = ")
        if not found.isdisjoint(NAME.findall(expression)):
            found.add(name)
    return found


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
