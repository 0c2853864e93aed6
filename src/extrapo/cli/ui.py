"""extrapo ui: the recorded runs in MLflow's own pages, on this machine only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def ui(
    *,
    run: Annotated[str | None, Parameter(help="A run to link to: id, the start of it, name, or `last`.")] = None,
    root: Annotated[str, Parameter(help="Folder of all runs.")] = "runs",
    tracking_uri: Annotated[str | None, Parameter(help="MLflow server or database [sqlite in the root].")] = None,
    experiment: Annotated[str, Parameter(help="MLflow experiment.")] = "extrapo",
    port: Annotated[int | None, Parameter(help="Port on 127.0.0.1 [5000, or the next free one].")] = None,
) -> int:
    """Serve the recorded runs on 127.0.0.1 and print the links to their curves and heatmaps; Ctrl-C ends it."""
    from extrapo.tracking.server import serve

    serve(Path(root), tracking_uri, experiment=experiment, run=run, port=port)
    return 0
