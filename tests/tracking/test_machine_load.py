"""The load of the machine is recorded as MLflow names it, through the outbox of the run."""

from __future__ import annotations

import sys
import time

import pytest

from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.run.fit import fit
from extrapo.tracking import Recorder
from extrapo.tracking.machine_load import ALWAYS, machine_load

MEMORY = "system/system_memory_usage_megabytes"


def test_a_point_at_a_time_and_a_run_that_goes_on_goes_on_counting(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    for _ in range(2):
        patient = recorder.patient(print)
        with machine_load(patient):
            time.sleep(0.2)
        patient.finish("FINISHED")
    points = recorder.store.client.get_metric_history(recorder.run_id, MEMORY)
    assert len(points) >= 4
    assert [point.step for point in points] == list(range(len(points)))
    assert all(point.value > 1 for point in points)
    assert recorder.store.client.get_metric_history(recorder.run_id, ALWAYS)


def test_without_a_record_nothing_happens() -> None:
    with machine_load(None):
        pass


def test_a_missing_package_is_a_line_before_anything_is_written(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    asked = small.model_copy(update={"system_metrics": True})
    with pytest.raises(UserError, match="psutil: pip install psutil"):
        fit(asked)
