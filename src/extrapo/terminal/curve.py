"""The extrapolation curve in the terminal: as a table and as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from extrapo.terminal.tables import FittedTable

Row: TypeAlias = Mapping[str, Any]

#: Of what the mean would be on other texts of the kind.
INTERVAL = "95%"
COLUMNS = ("length", "length/T", "nll", "ppl", f"ppl {INTERVAL}", "ppl/ppl(T)", "bits/byte", "tokens")


def curve_table(rows: Sequence[Row], train_length: int) -> FittedTable:
    """The curve as a table: one row per length, the training length marked, and what is not applicable.

    Args:
        rows: one per length: `length`, `nll`, `ppl` (None if not applicable), `tokens`, perhaps `low`, `high` and
            `bits_per_byte`, and `note`.
        train_length: T.
    """
    optional = {
        f"ppl {INTERVAL}": any(row.get("low") is not None for row in rows),
        "bits/byte": any(row.get("bits_per_byte") is not None for row in rows),
    }
    shown = [name for name in COLUMNS if optional.get(name, True)]
    at_train = next((row["ppl"] for row in rows if row["length"] == train_length), None)
    ordered = sorted(rows, key=lambda row: int(row["length"]))
    lines = []
    for row in ordered:
        length = int(row["length"])
        cells = {"length": f"{length:,}", "length/T": f"{length / train_length:g}", "ppl": "not applicable"}
        if row["nll"] is not None:
            cells |= _measured(row) | {"ppl/ppl(T)": f"{row['ppl'] / at_train:.3f}" if at_train else "-"}
        lines.append({name: cells.get(name, "-") for name in shown})
    return FittedTable(lines, bold={n for n, row in enumerate(ordered) if int(row["length"]) == train_length})


def _measured(row: Row) -> dict[str, str]:
    cells = {"nll": f"{row['nll']:.4f}", "ppl": f"{row['ppl']:,.2f}", "tokens": f"{row['tokens']:,}"}
    if row.get("low") is not None:
        cells[f"ppl {INTERVAL}"] = " to ".join(f"{math.exp(min(row[end], 700.0)):,.4g}" for end in ("low", "high"))
    if row.get("bits_per_byte") is not None:
        cells["bits/byte"] = f"{row['bits_per_byte']:.4f}"
    return cells


def positions_table(rows: Sequence[Row]) -> FittedTable | None:
    """The loss by position: a row per stretch of positions, a column per length; None where no row tells them apart.

    Args:
        rows: as for `curve_table`; those with `positions` are shown, each of these with `first`, `last`, `nll` and, for
            its interval, `low` and `high`.
    """
    told = sorted((row for row in rows if row.get("positions")), key=lambda row: int(row["length"]))
    if not told:
        return None
    # Where a length is no power of two, its last stretch ends earlier than that of a longer one.
    last = {
        one["first"]: max(b["last"] for row in told for b in row["positions"] if b["first"] == one["first"])
        for row in told
        for one in row["positions"]
    }
    lines = []
    for first, end in sorted(last.items()):
        line = {"position": f"{first:,}" if first == end else f"{first:,}-{end:,}"}
        for row in told:
            one = {one["first"]: one for one in row["positions"]}.get(first)
            line[f"L = {row['length']:,}"] = _at_position(one)
        lines.append(line)
    return FittedTable(lines, title="nll by position in the window")


def _at_position(one: Row | None) -> str:
    if one is None or one["nll"] is None:
        return "-"
    if one.get("low") is None:
        return f"{one['nll']:.4f}"
    return f"{one['nll']:.4f} ± {(one['high'] - one['low']) / 2:.4f}"


def curve_protocol(rows: Sequence[Row]) -> str:
    """Under which protocol the curve was measured and on how many tokens, in a line; empty where nothing was.

    Args:
        rows: as for `curve_table`, with `protocol` and `description`.
    """
    scored = [row for row in rows if row["nll"] is not None]
    if not scored:
        return ""
    protocols = ", ".join(dict.fromkeys(str(row.get("description") or row["protocol"]) for row in scored))
    counts = {int(row["tokens"]) for row in scored}
    tokens = f"the same {max(counts):,} tokens" if len(counts) == 1 else f"up to {max(counts):,} tokens"
    return f"protocol: {protocols}, {tokens} at every length"


def curve_plot(rows: Sequence[Row], train_length: int, width: int = 80) -> str:
    """Perplexity against length on log axes, with a line at T, in characters of the terminal's own colours.

    Args:
        rows: as for `curve_table`; rows without a finite perplexity are left out.
        train_length: T.
        width: columns of the terminal.

    Returns:
        The plot, or an empty text where there is no point to draw.
    """
    import plotext

    points = sorted((int(r["length"]), float(r["ppl"])) for r in rows if r["ppl"] and math.isfinite(r["ppl"]))
    if not points:
        return ""
    lengths, values = [math.log2(x) for x, _ in points], [math.log10(y) for _, y in points]
    # At least a factor of 1.5 from bottom to top: a flat curve should look flat.
    middle, half = (min(values) + max(values)) / 2, max(max(values) - min(values), math.log10(1.5)) / 2
    low, high, margin = middle - half, middle + half, 0.1 * half
    marks = [low + (high - low) * i / 4 for i in range(5)]
    figure = plotext.figure.clear()
    figure.plot_size(max(40, min(width, 100)), 16)
    figure.title(f"perplexity against length, both logarithmic; | is T = {train_length}")
    figure.ruler("x").ticks(lengths, [f"{x}" for x, _ in points])
    figure.ruler("x").lim(min(*lengths, math.log2(train_length)) - 0.1, max(*lengths, math.log2(train_length)) + 0.1)
    figure.ruler("y").ticks(marks, [f"{10**y:.4g}" for y in marks])
    figure.ruler("y").lim(low - margin, high + margin)
    figure.line(math.log2(train_length), orientation=1)
    figure.draw(figure.signal(lengths, values, marker="braille").lines())
    figure.draw(figure.signal(lengths, values, marker="o"))
    # Plotext's own colours come with a white ground.
    text: str = figure.build().string(colorless=True)
    return text
