"""extrapo list: what there is to choose from, as a table or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from extrapo.errors import UserError


def catalogue(
    what: Annotated[Literal["encodings", "kernels", "corpora"], Parameter(help="What to list.")] = "encodings",
    /,
    *,
    output: Annotated[Path | None, Parameter(help="Draw the kernels side by side into this picture.")] = None,
    json: Annotated[bool, Parameter(help="One JSON document on stdout.", negative=())] = False,
) -> int:
    """List the encodings, the kernels or the corpora."""
    if output is not None:
        if what != "kernels":
            raise UserError(f"--output draws kernels; of {what} there is no picture")
        from extrapo import figures
        from extrapo.figures.kernel_forms import kernel_figure

        figures.check_place(output)
        figures.save(kernel_figure(), output)
    from extrapo import catalogue as listing
    from extrapo.terminal import Output

    rows = {"encodings": listing.encodings, "kernels": listing.kernels, "corpora": listing.corpora}[what]()
    terminal = Output(json=json)
    if json:
        terminal.document(rows)
    else:
        terminal.table([compact(row) for row in rows])
    return 0


def compact(row: dict[str, Any]) -> dict[str, Any]:
    """The row without what is the same for all, the paper beside the summary, so that a terminal holds it."""
    if "paper" not in row:
        return row
    if "certainty" not in row:
        fold = "yes" if "fold" in row["impls"] else "no"
        return {
            "name": row["name"],
            "params": row["parameters"],
            "monotone": "yes" if row["monotone"] else "no",
            "cpd": "yes" if row["cpd"] else "no",
            "folds": fold,
            "sum finite": row["summable"],
            "summary": f"{row['summary']} ({row['paper']})",
        }
    columns = {key: row[key] or "-" for key in ("name", "year", "positions", "transform", "kernel", "content")}
    impls = ", ".join(impl for impl in row["impls"] if impl != "reference")
    return {
        **columns,
        "params": row["parameters"],
        "impls": impls,
        "state": row["state"],
        "summary": f"{row['summary']} ({row['paper']})",
    }
