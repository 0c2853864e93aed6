"""MLflow's own system metrics of a run, through its outbox: CPU, memory, disk, network, GPUs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError
from extrapo.tracking.entries import Destination, Scalars, now

if TYPE_CHECKING:
    from extrapo.tracking.recorder import Recorder

#: The one that every machine has.
ALWAYS = "system/cpu_utilization_percentage"


def check_available() -> None:
    """Whether they can be taken here.

    Raises:
        UserError: a package is missing.
    """
    try:
        import psutil  # noqa: F401
    except ModuleNotFoundError as cause:
        raise UserError("`system_metrics` needs the Python package psutil: pip install psutil") from cause


@contextmanager
def machine_load(recorder: Recorder | None) -> Iterator[None]:
    """Record them while the block runs: a point every ten seconds, or MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL; at least
    one. A run that goes on goes on counting.

    Args:
        recorder: the run's record; without one nothing happens.
    """
    if recorder is None:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    # Its own thread would end when the store is away: it collects, and nothing more.
    mlflows: Any = SystemMetricsMonitor
    collector = mlflows(recorder.run_id, tracking_uri=recorder.store.location.uri)
    first = Destination(recorder.store.client, recorder.run_id, recorder.folder).last_step(ALWAYS) + 1
    over = threading.Event()

    def take() -> None:
        for step in itertools.count(first):
            collector.collect_metrics()
            is_last = over.wait(collector.sampling_interval)
            values = {f"system/{key}": float(value) for key, value in collector.aggregate_metrics().items()}
            # A disk that is full stops the training, which says so.
            with suppress(OSError):
                recorder.record(Scalars(values, step, now()))
            for one in collector.monitors:
                one.clear_metrics()
            if is_last:
                return

    thread = threading.Thread(target=take, name="machine load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
