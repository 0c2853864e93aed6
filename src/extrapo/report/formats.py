"""Tables as papers and spreadsheets take them: Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

Row: TypeAlias = Mapping[str, str]
Format: TypeAlias = Literal["md", "latex", "csv"]

#: What LaTeX would take for something else.
SPECIAL = {**{c: f"\\{c}" for c in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}


def markdown(rows: Sequence[Row]) -> str:
    """A table of GitHub's Markdown, numbers to the right."""
    names = list(rows[0])
    lines = [names, ["---:"] * len(names), *([row[name].replace("|", r"\|") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def latex(rows: Sequence[Row]) -> str:
    """A tabular with the rules of booktabs."""
    names = list(rows[0])
    body = [" & ".join(escaped(cell) for cell in line) + r" \\" for line in (names, *(row.values() for row in rows))]
    columns = "r" * len(names)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """Comma-separated values with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def escaped(cell: str) -> str:
    """Text as LaTeX takes it."""
    return "".join(SPECIAL.get(c, c) for c in cell)


FORMATS: dict[Format, Callable[[Sequence[Row]], str]] = {"md": markdown, "latex": latex, "csv": comma_separated}
