"""The saved views of an experiment: what `extrapo ui` opens on.

A view is an experiment tag that MLflow's page reads as the state of its charts and columns. The format
is MLflow's own and not documented, so a view is best effort: without it, the page has its usual layout.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from extrapo.tracking.heatmaps import LAYERS, STEP

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

TAG = "mlflow.sharedViewState."
CURVES = "extrapo-curves"
SEEDS = "extrapo-seeds"
#: Runs that a view is fitted to, the newest.
RUNS = 200
#: Title of the first section: the page heads each chart with its metric, and writes "Step" under it.
CURVE = "perplexity against length"


def refresh(client: MlflowClient, run_id: str) -> None:
    """Fit the views of a run's experiment to what its runs have recorded; write those that changed."""
    try:
        experiment_id = client.get_run(run_id).info.experiment_id
        runs = client.search_runs([experiment_id], max_results=RUNS, order_by=["attributes.start_time DESC"])
        lengths = sorted({key for run in runs for key in run.data.metrics if key.startswith("ppl/")})
        tags = client.get_experiment(experiment_id).tags
        for key, name, state in (
            (CURVES, "Curves and heatmaps", curves_view(lengths, *_heatmaps(runs))),
            (SEEDS, "Mean over seeds", seeds_view(lengths)),
        ):
            before = tags.get(TAG + key)
            if before is None or decode(before)["state"] != state:
                client.set_experiment_tag(experiment_id, TAG + key, encode(name, state))
    except Exception:
        log.warning("the saved view of the experiment could not be written", exc_info=True)


def curves_view(lengths: Sequence[str], runs: int, layers: int, step: int) -> dict[str, Any]:
    """Perplexity against length on top, the heatmaps of `layers` layers at `step` below.

    Args:
        lengths: metric names `ppl/NNNNNN` for the columns of the table.
        runs: number of runs with heatmaps; they stand side by side if there are several.
        layers: number of layers with heatmaps.
        step: training step that the heatmaps are shown at.
    """
    images = [_images(f"layer {layer:02d}", step) for layer in range(layers)]
    return _view([*_lines(), *images], lengths, bias_columns=2 if runs == 1 else 1)


def seeds_view(lengths: Sequence[str]) -> dict[str, Any]:
    """Mean curves over all runs of an encoding; MLflow shows no pictures of groups."""
    encoding = {"mode": "param", "groupByData": "encoding"}
    return _view(_lines(), lengths) | {
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [encoding]},
        "useGroupedValuesInCharts": True,
    }


def encode(name: str, state: dict[str, Any]) -> str:
    """The value of a view's tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def decode(value: str) -> dict[str, Any]:
    """What `encode` was given: `name` and `state`, and when."""
    view: dict[str, Any] = json.loads(value)
    packed = base64.b64decode(view["state"].removeprefix("deflate;"))
    return view | {"state": json.loads(zlib.decompress(packed))}


def _heatmaps(runs: Sequence[Run]) -> tuple[int, int, int]:
    """Runs with heatmaps, the most layers of any, and the step of most runs' last, the later of equals."""
    drawn = [run.data.tags for run in runs if STEP in run.data.tags]
    steps = Counter(int(tags[STEP]) for tags in drawn)
    step = max(steps, key=lambda step: (steps[step], step), default=0)
    return len(drawn), max((int(tags[LAYERS]) for tags in drawn), default=0), step


def _view(charts: list[dict[str, Any]], lengths: Sequence[str], bias_columns: int = 2) -> dict[str, Any]:
    columns = [
        "params.`encoding`",
        "params.`layers`",
        "params.`seed`",
        *(f"metrics.`{key}`" for key in lengths),
    ]
    # A section named like the metrics in it also takes the charts that MLflow adds by itself.
    sections = [_section(CURVE, 2, 420), _section("bias", bias_columns, 400), _section("ppl", 3, 320)]
    sections[-1]["display"] = False
    return {
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _section(name: str, columns: int, height: int) -> dict[str, Any]:
    shape = {"columns": columns, "cardHeight": height}
    return {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, **shape}


def _lines() -> list[dict[str, Any]]:
    return [
        _line("extrapolation/ppl", "perplexity against length", "log"),
        _line("extrapolation/nll", "loss against length (nats per token)", "linear"),
    ]


def _line(metric: str, name: str, scale: str) -> dict[str, Any]:
    return _card("LINE", metric, CURVE) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": name,
        "xAxisKey": "step",
        "xAxisScaleType": "log",
        "scaleType": scale,
        "lineSmoothness": 0,
        "displayPoints": True,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        "selectedXAxisMetricKey": "",
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
    }


def _images(layer: str, step: int) -> dict[str, Any]:
    return _card("IMAGE", layer, "bias") | {
        "imageKeys": [f"bias/{layer}"],
        "step": step,
        "showRunParams": False,
    }


def _card(kind: str, key: str, section: str) -> dict[str, Any]:
    identity = {"uuid": key, "type": kind, "metricSectionId": section}
    return identity | {"deleted": False, "isGenerated": False, "runsCountToCompare": 10}
