"""All recorded runs as one table: a line per run, with its configuration and its perplexities."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError
from extrapo.tracking.configuration import flatten
from extrapo.tracking.reading import RecordedRun, runs

if TYPE_CHECKING:
    import pandas as pd


def frame(root: Path | str, tracking_uri: str | None = None, experiment: str | None = None) -> pd.DataFrame:
    """A line per run, newest first: `run_id`, `name`, `status`, all settings (`encoding_options.c` for one of a group)
    and `ppl@512` for each length that was measured; empty where a run has none.

    Args:
        root: the folder of all runs.
        tracking_uri: the address of another store than the database in the root.
        experiment: the runs of one alone.

    Raises:
        UserError: there is no database, or no pandas.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as cause:
        raise UserError("a data frame needs pandas, as mlflow does: pip install pandas") from cause
    return pd.DataFrame([line(run) for run in runs(root, tracking_uri, experiment)])


def line(run: RecordedRun) -> dict[str, Any]:
    """One run in a line; lengths from short to long."""
    found = ((re.fullmatch(r"ppl/(\d+)", key), value) for key, value in run.metrics.items())
    measured = sorted((int(key[1]), value) for key, value in found if key is not None)
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        **dict(flatten(run.config)),
        **{f"ppl@{length}": value for length, value in measured},
    }
