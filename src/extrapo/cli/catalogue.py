"""extrapo list: what there is to choose from, and what was run, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from extrapo.cli.flags import Json, Store, StoreFlags, Written
from extrapo.errors import UserError
from extrapo.location import Location

if TYPE_CHECKING:
    from extrapo.terminal import Output

#: What a terminal of 80 columns holds of each.
SHORT = {"encodings": ("name", "kernel", "summary"), "kernels": ("name", "params", "folds", "summary")}


def catalogue(
    what: Annotated[Literal["encodings", "kernels", "corpora", "runs"], Parameter(help="What to list.")] = "encodings",
    /,
    *,
    wide: Annotated[bool, Parameter(help="All columns, also on a terminal.", negative=())] = False,
    output: Annotated[Written | None, Parameter(help="Draw the kernels side by side into this picture.")] = None,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """List the encodings by family, the kernels, the corpora, or the recorded runs."""
    if output is not None:
        if what != "kernels":
            raise UserError(f"--output draws kernels; of {what} there is no picture")
        from extrapo import figures
        from extrapo.figures.kernel_forms import kernel_figure

        figures.check_place(output)
        figures.save(kernel_figure(), output)
    from extrapo.terminal import Output

    terminal = Output(json=json)
    # A pipe has room for all, and a record is a line of it.
    is_short = what in SHORT and not wide and not json and terminal.console.is_terminal
    rows = rows_of(what, Location.of(store), is_short=is_short)
    if json:
        terminal.document(rows)
        return 0
    lines = [line(row) for row in rows]
    if is_short:
        lines = [{key: row[key] for key in SHORT[what]} for row in lines]
    if what == "encodings":
        by_family(terminal, lines)
    else:
        terminal.table(lines)
    return 0


def rows_of(what: str, location: Location, *, is_short: bool = False) -> list[dict[str, Any]]:
    """What there is of a kind, as the JSON document has it; of encodings, for a short list what that is made of."""
    if what == "runs":
        from extrapo.tracking.listing import listing

        return listing(location)
    from extrapo import catalogue as of_package

    if what == "encodings":
        return of_package.encodings(built=not is_short)
    return {"kernels": of_package.kernels, "corpora": of_package.corpora}[what]()


def by_family(terminal: Output, lines: Sequence[dict[str, Any]]) -> None:
    """Encodings with their family: above those of it on a terminal, in a column of its own in a pipe."""
    from extrapo.encodings.family import family
    from extrapo.known import FAMILIES

    ordered = sorted(lines, key=lambda row: FAMILIES.index(family(row["name"])))
    if not terminal.console.is_terminal:
        terminal.table([{"name": row["name"], "family": family(row["name"]), **row} for row in ordered])
        return

    def headed() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(ordered):
            if not number or family(row["name"]) != family(ordered[number - 1]["name"]):
                if number:
                    yield dict.fromkeys(row, "")
                yield {**dict.fromkeys(row, ""), "name": f"{family(row['name'])}:"}
            yield {**row, "name": f"  {row['name']}"}

    terminal.table(list(headed()))


def line(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people, without what is the same for all, the paper beside the summary."""
    if "run_id" in row:
        return of_run(row)
    if "paper" not in row:
        return row
    summary = f"{row['summary']} ({row['paper']})"
    if "certainty" not in row:
        return {
            "name": row["name"],
            "params": row["parameters"],
            "monotone": "yes" if row["monotone"] else "no",
            "cpd": "yes" if row["cpd"] else "no",
            "folds": "yes" if "fold" in row["impls"] else "no",
            "sum finite": row["summable"],
            "summary": summary,
        }
    columns = {key: row[key] or "-" for key in ("name", "year", "positions", "transform", "kernel", "content")}
    if "impls" not in row:
        return {**columns, "state": row["state"], "summary": summary}
    impls = ", ".join(impl for impl in row["impls"] if impl != "reference")
    return {**columns, "params": row["parameters"], "impls": impls, "state": row["state"], "summary": summary}


def of_run(row: dict[str, Any]) -> dict[str, str]:
    """A run: when, how it stands, perplexity at T and at the longest length that was measured."""
    curve, length = row["curve"], row["train_length"]
    longest = max(curve, default=None)
    return {
        "run": row["run_id"][:8],
        "started": row["started"][:16].replace("T", " "),
        "status": row["status"],
        "T": "-" if length is None else f"{length:,}",
        "ppl at T": f"{curve[length]:,.5g}" if length in curve else "-",
        "longest": "-" if longest is None else f"{longest:,}",
        "ppl there": "-" if longest is None else f"{curve[longest]:,.5g}",
        "name": row["name"],
    }
