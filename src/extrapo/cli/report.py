"""extrapo report: what came of some runs, fit to attach to a paper."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.flags import Json, Store, StoreFlags, Written
from extrapo.location import Location


def report(
    runs: Annotated[tuple[str, ...], Parameter(help="Runs (id, its beginning, name, or `last`).")] = (),
    /,
    *,
    sweep: Annotated[str | None, Parameter(help="All finished runs of this sweep instead.")] = None,
    output: Annotated[
        Written | None, Parameter(help="A folder, or a file that ends in .html [report, or report-SWEEP].")
    ] = None,
    title: Annotated[str, Parameter(help="The heading [what is compared].")] = "",
    question: Annotated[str, Parameter(help="What the runs are to answer, in a sentence.")] = "",
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Write curves, tables, heatmaps, theory, probes, settings and commands as one page, as Markdown and as LaTeX."""
    from extrapo.terminal import Output

    terminal = Output(json=json)
    terminal.waiting("reading the runs ...")
    from extrapo.run.report import report as write

    made = write(
        runs,
        Location.of(store),
        sweep=sweep,
        output=output,
        title=title,
        question=question,
        made_by=shlex.join(["extrapo", *sys.argv[1:]]),
    )
    for kind, path in made.items():
        terminal.say(f"{kind + ':':<10}{path}")
    terminal.document({kind: str(path) for kind, path in made.items()})
    return 0
