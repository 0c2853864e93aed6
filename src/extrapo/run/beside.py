"""Several curves in one table: perplexity where they are of one quantity, else bits per byte, or the reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from extrapo.errors import UserError
from extrapo.evaluation.comparison import MeasuredRun, check_comparable, table_of
from extrapo.run.measured import Measured


def beside(found: Sequence[Measured]) -> tuple[list[dict[str, str]], list[str]]:
    """A row per length and a column per curve, and lines that say what the numbers are.

    Args:
        found: curves, of several runs or under several encodings.
    """
    runs = {one.run for one in found}
    schemes = Counter(one.scheme for one in found)
    several = len(runs) > 1
    names = [f"{one.scheme} ({one.run})" if several or schemes[one.scheme] > 1 else one.scheme for one in found]
    curves = {name: [dict(row) for row in one.rows] for name, one in zip(names, found, strict=True)}
    measured = [MeasuredRun(name, (name,), None, one.rows) for name, one in zip(names, found, strict=True)]
    protocols = dict.fromkeys(str(row["description"]) for one in found for row in one.rows)
    lengths = dict.fromkeys(one.train_length for one in found)
    trained = f"trained at {', '.join(f'{length:,}' for length in lengths)}"
    metric, lines = "ppl", []
    try:
        check_comparable(measured)
        label = "perplexity"
    except UserError as cause:
        metric, label = "bits_per_byte", "bits per byte, since perplexities would not be of one quantity"
        lines.append(str(cause))
    try:
        check_comparable(measured, per_byte=metric == "bits_per_byte")
    except UserError:
        label = "bits per byte of different texts: do not compare the columns"
    return table_of(curves, metric), [f"{label}; {'; '.join(protocols)}; {trained}", *lines]
