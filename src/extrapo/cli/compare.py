"""extrapo compare: the figure and the table of a paper, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from extrapo.cli.flags import Json, Store, StoreFlags, Written
from extrapo.config import Line
from extrapo.errors import UserError
from extrapo.location import Location

#: What a figure is saved as.
PICTURES = (".png", ".pdf", ".svg")


def compare(
    runs: Annotated[
        tuple[str, ...],
        Parameter(help="Runs (id, its beginning, name, `last`), or RUN@CURVE measured later [all of the experiment]."),
    ] = (),
    /,
    *,
    experiment: Annotated[Line | None, Parameter(help="All finished runs of it [of the whole record].")] = None,
    by: Annotated[
        str | None,
        Parameter(help="Settings that make a line, joined by commas; the others are seeds [those that differ]."),
    ] = None,
    metric: Annotated[str, Parameter(help="ppl, or bits_per_byte, which any tokenizers share.")] = "ppl",
    output: Annotated[Written | None, Parameter(help="The figure: .png, .pdf or .svg.")] = None,
    table: Annotated[
        Literal["md", "latex", "csv"] | None, Parameter(help="Print the table as md, latex or csv, and no more.")
    ] = None,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Draw and list the curves of several runs, with their spread over seeds, and test their differences in pairs."""
    if metric not in ("ppl", "bits_per_byte"):
        raise UserError(f"--metric is ppl or bits_per_byte, not '{metric}'")
    if output is not None and output.suffix not in PICTURES:
        raise UserError(f"--output ends in {', '.join(PICTURES)}, unlike '{output}'")
    if output is not None:
        from extrapo.figures import check_place

        check_place(output)
    from extrapo.report.formats import FORMATS
    from extrapo.terminal import Output

    out = Output(json=json or table is not None)
    from extrapo.evaluation.comparison import table_of
    from extrapo.run.compare import compare as comparison

    found = comparison(
        runs,
        Location.of(store),
        experiment=experiment,
        by=None if by is None else [key.strip() for key in by.split(",")],
        per_byte=metric == "bits_per_byte",
    )
    rows = table_of(found.curves(), metric, thousands="" if table == "csv" else ",")
    if table is not None:
        print(FORMATS[table](rows), end="")
    else:
        out.table(rows)
        if any(len(group.members) > 1 for group in found.groups):
            out.say("mean ± standard deviation over seeds")
        for group in found.groups:
            if lengths := ", ".join(map(str, group.partial())):
                out.say(f"no mean of {group.name} at {lengths}: not all of its seeds have a loss there")
        for name in found.left_out:
            out.say(f"left out, since it was trained again: {name}")
        if found.why:
            out.say(found.why)
        if found.differences:
            out.say("\ndifferences of the mean loss in nats, on the same targets, with their 95% interval")
            out.table([told(row) for row in found.differences])
    if output is not None:
        from extrapo import figures

        picture = figures.curve_figure(found.curves(), train_length=found.train_length, title="", metric=metric)
        figures.save(picture, output)
        out.say(f"picture: {output}")
    if json:
        out.document(found.document())
    return 0


def told(row: Mapping[str, Any]) -> dict[str, str]:
    """A difference, for people."""
    words = {"lower": f"{row['one']} is better", "higher": f"{row['other']} is better"}
    return {
        "length": f"{row['length']:,}",
        "one": row["one"],
        "other": row["other"],
        "difference": f"{row['mean']:+.4f}",
        "from": f"{row['low']:+.4f}",
        "to": f"{row['high']:+.4f}",
        "verdict": words.get(row["verdict"], row["verdict"]),
    }
