"""All recorded runs as rows, from what their records say of them: no file of theirs is read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from extrapo.location import Location
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from mlflow.entities import Run

#: The scalar of a length.
PERPLEXITY = re.compile(r"ppl/(\d+)")


def listing(location: Location) -> list[dict[str, Any]]:
    """A row per run, newest first: `run_id`, `name`, `status`, `started`, `experiment`, `encoding`, `train_length`
    and `curve`, the perplexity by length.

    Raises:
        UserError: there are none.
    """
    store = RunStore.existing(location)
    experiments = {one.experiment_id: one.name for one in store.client.search_experiments()}
    return [_row(run, experiments) for run in store.recorded()]


def _row(run: Run, experiments: dict[str, str]) -> dict[str, Any]:
    found = ((PERPLEXITY.fullmatch(key), value) for key, value in run.data.metrics.items())
    length = run.data.tags.get("extrapo.train_length") or run.data.params.get("seq_len")
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "started": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        "experiment": experiments.get(run.info.experiment_id, ""),
        "encoding": run.data.tags["extrapo.encoding"],
        "train_length": int(length) if length is not None and length.isdecimal() else None,
        "curve": dict(sorted((int(key[1]), value) for key, value in found if key is not None)),
    }
