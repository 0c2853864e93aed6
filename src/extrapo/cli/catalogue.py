"""extrapo list: what there is to choose from, as a table or as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter


def catalogue(
    what: Annotated[Literal["encodings", "kernels", "corpora"], Parameter(help="What to list.")] = "encodings",
    /,
    *,
    json: Annotated[bool, Parameter(help="One JSON document on stdout.", negative=())] = False,
) -> int:
    """List the encodings, the kernels or the corpora."""
    from extrapo import catalogue as known
    from extrapo.terminal import Output

    rows = {"encodings": known.encodings, "kernels": known.kernels, "corpora": known.corpora}[what]()
    output = Output(json=json)
    if json:
        output.document(rows)
    else:
        output.table(rows)
    return 0
