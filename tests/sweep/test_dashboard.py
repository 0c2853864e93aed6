"""optuna-dashboard opens the study of a sweep, where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from extrapo.sweep.queue import Queue
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import default_url, open_storage
from extrapo.sweep.study import create_study

dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")


def test_the_dashboard_shows_study_and_trials(tmp_path: Path) -> None:
    spec = SweepSpec(name="mine", space={"kernel": ["linear", "log"], "seed": [0, 1]}, objective=["ppl@2T", "log-auc"])
    storage = open_storage(None, tmp_path)
    queue = Queue(spec, create_study(spec, storage), storage)
    queue.enqueue_missing()
    for values in ([1.5, 2.0], [float("inf"), 3.0]):
        trial = queue.claim()
        assert trial is not None
        queue.suggest(trial)
        queue.complete(trial, values)
    claimed = queue.claim()
    assert claimed is not None
    queue.requeue(claimed)
    app = dashboard.wsgi(default_url(tmp_path))

    def get(path: str, query: str = "") -> Any:
        environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query}
        setup_testing_defaults(environ)
        answered: list[str] = []
        body = b"".join(app(environ, lambda status, headers, *rest: answered.append(status)))
        assert answered == ["200 OK"], body
        return json.loads(body)

    (study,) = get("/api/studies")["study_summaries"]
    assert (study["study_name"], study["directions"]) == ("mine", ["minimize", "minimize"])
    shown = get(f"/api/studies/{study['study_id']}", "after=0")
    assert shown["objective_names"] == ["ppl@2T", "log-auc"]
    assert [trial["state"] for trial in shown["trials"]] == ["Complete", "Complete", "Fail", "Waiting", "Waiting"]
    params = {param["name"]: param["param_external_value"] for param in shown["trials"][1]["params"]}
    assert params == {"kernel": "linear", "seed": "1"}
