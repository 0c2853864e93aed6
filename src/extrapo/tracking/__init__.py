"""What a run leaves behind, in MLflow: store, recorder of one run, saved views, server, reading back.

mlflow is imported when a store is opened, not when this package is.
"""

from extrapo.tracking.frames import frame
from extrapo.tracking.outbox import deliver_left
from extrapo.tracking.reading import RecordedRun, recorded_run, recorded_runs, runs
from extrapo.tracking.recorder import Recorder
from extrapo.tracking.revision import commit
from extrapo.tracking.store import RunStore

__all__ = [
    "RecordedRun",
    "Recorder",
    "RunStore",
    "commit",
    "deliver_left",
    "frame",
    "recorded_run",
    "recorded_runs",
    "runs",
]
