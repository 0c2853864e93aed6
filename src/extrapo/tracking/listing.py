"""All recorded runs as rows, from what their records say of them: no file of theirs is read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from extrapo.location import Location
from extrapo.tracking.rows import ENCODING, StoredRun
from extrapo.tracking.sound import read_of
from extrapo.tracking.store import RunStore

#: The scalar of a length.
PERPLEXITY = re.compile(r"ppl/(\d+)")


def listing(location: Location) -> list[dict[str, Any]]:
    """A row per run, newest first: `run_id`, `name`, `status`, `started`, `experiment`, `encoding`, `train_length`
    and `curve`, the perplexity by length.

    Raises:
        UserError: there are none.
    """
    return [_row(run) for run in RunStore.existing(location).recorded()]


def _row(run: StoredRun) -> dict[str, Any]:
    found = ((PERPLEXITY.fullmatch(key), value) for key, value in run.metrics.items())
    length = run.tags.get("extrapo.train_length") or run.params.get("seq_len")
    with read_of(run.run_id, "start time"):
        started = datetime.fromtimestamp(run.started / 1000, UTC)
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "started": started.isoformat(timespec="seconds"),
        "experiment": run.experiment,
        "encoding": run.tags[ENCODING],
        "train_length": int(length) if length is not None and length.isdecimal() else None,
        "curve": dict(sorted((int(key[1]), value) for key, value in found if key is not None)),
    }
