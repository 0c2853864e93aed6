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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extrapo.tracking import cards
from extrapo.tracking.curves import DOUBLINGS, OVER_T
from extrapo.tracking.heatmaps import KEY, LAYERS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

TAG = "mlflow.sharedViewState."
CURVES = "extrapo-curves"
SEEDS = "extrapo-seeds"
HEATMAPS = "extrapo-heatmaps"
#: Begins the key of the view of one run.
RUN = "extrapo-run-"
#: The tag of runs that differ in their seed alone, see `config.cell`.
CELL = "cell"
#: Runs that a view is fitted to, the newest.
RUNS = 1000
#: Parameters that the table shows in any case.
ALWAYS = ("encoding", "kernel", "layers")
#: Titles of the sections, which must say what the axes do not.
CURVE = "perplexity against length"
TOKENS = "by tokens, and the loss in nats"
PICTURES = "heatmaps, by percent of training"
#: Sections of what the page draws by itself, whose charts are not asked for.
CLOSED = ("extrapolation", "bias", "weights", "ppl", "score")


@dataclass(frozen=True)
class Contents:
    """What the runs of an experiment have, as far as a view depends on it.

    Args:
        lengths: metrics `ppl/NNNNNN`.
        varied: parameters that tell cells apart, beside those of ALWAYS.
        layers: the most that pictures were drawn of.
        drawn: runs with pictures.
    """

    lengths: Sequence[str] = ()
    varied: Sequence[str] = ()
    layers: int = 0
    drawn: int = 0

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Contents:
        """What these runs have recorded."""
        drawn = [int(run.data.tags[LAYERS]) for run in runs if LAYERS in run.data.tags]
        lengths = sorted({key for run in runs for key in run.data.metrics if key.startswith("ppl/")})
        return cls(lengths, _varied(runs), max(drawn, default=0), len(drawn))


def refresh(client: MlflowClient, run_id: str) -> None:
    """Fit the views of a run's experiment to what its runs have recorded, and its own; write those that changed."""
    try:
        run = client.get_run(run_id)
        newest = client.search_runs([run.info.experiment_id], max_results=RUNS, order_by=["attributes.start_time DESC"])
        fit(client, run.info.experiment_id, newest)
        # Without a name: of two hundred runs, the page's menu is to have none.
        view = run_view(Contents.of([run]), run_id)
        write(client, run.info.experiment_id, {RUN + run_id: ("", view)})
    except Exception:
        log.warning("the saved view of the experiment could not be written", exc_info=True)


def fit(client: MlflowClient, experiment_id: str, runs: Sequence[Run]) -> None:
    """Fit the views of an experiment to what its runs, newest first, have recorded; write those that changed."""
    contents = Contents.of(runs[:RUNS])
    views = {
        CURVES: ("All runs", curves_view(contents)),
        SEEDS: ("Mean over seeds, by cell", cards.grouped(curves_view(contents, pictures=False), CELL)),
        HEATMAPS: ("Heatmaps side by side", heatmaps_view(contents)),
    }
    write(client, experiment_id, views)


def write(client: MlflowClient, experiment_id: str, views: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
    """Write the views, (name, state) by key, that are not there as they are."""
    tags = client.get_experiment(experiment_id).tags
    for key, (name, state) in views.items():
        before = decode(tags[TAG + key]) if TAG + key in tags else {}
        if (before.get("name"), before.get("state")) != (name, state):
            client.set_experiment_tag(experiment_id, TAG + key, encode(name, state))


def curves_view(contents: Contents, *, pictures: bool = True) -> dict[str, Any]:
    """Perplexity against length on top, the heatmaps below; MLflow shows no pictures of groups."""
    shown = [*_curves(), *(_pictures(contents) if pictures else [])]
    sections = [cards.section(CURVE, 1, 380), cards.section(TOKENS, 2, 360), *_pictured(contents, pictures), *_closed()]
    return cards.page(shown, sections, _columns(contents))


def heatmaps_view(contents: Contents) -> dict[str, Any]:
    """The heatmaps on top, the curves below."""
    sections = [*_pictured(contents, True), cards.section(CURVE, 1, 380), cards.section(TOKENS, 2, 360), *_closed()]
    return cards.page([*_pictures(contents), *_curves()], sections, _columns(contents))


def run_view(contents: Contents, run_id: str) -> dict[str, Any]:
    """The heatmaps and the curve of one run alone."""
    return heatmaps_view(contents) | {"searchFilter": f"attributes.run_id IN ('{run_id}')"}


def of_run(runs: str, run_id: str) -> str:
    """The address of the view of one run alone.

    Args:
        runs: address of the page of the experiment's runs.
        run_id: the run.
    """
    return address(runs, "CHART", RUN + run_id)


def address(runs: str, mode: str, key: str) -> str:
    """The address of a view. What it searches for is in the view: beside a search in an address, the page reads none.

    Args:
        runs: address of the page of the experiment's runs.
        mode: `CHART` or `TABLE`.
        key: of the view.
    """
    return f"{runs}?workflowType=machine_learning&compareRunsMode={mode}&viewStateShareKey={key}"


def encode(name: str, state: dict[str, Any]) -> str:
    """The value of a view's tag; the page's menu lists those with a name."""
    packed = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": packed}) if name else packed


def decode(value: str) -> dict[str, Any]:
    """What `encode` was given: `name` and `state`, and when."""
    view: dict[str, Any] = {"name": "", "state": value} if value.startswith("deflate;") else json.loads(value)
    packed = base64.b64decode(view["state"].removeprefix("deflate;"))
    return view | {"state": json.loads(zlib.decompress(packed))}


def _curves() -> list[cards.Card]:
    return [
        cards.line(CURVE, "extrapolation/ppl", against=DOUBLINGS),
        cards.line(CURVE, OVER_T, against=DOUBLINGS, within=cards.NEAR_ONE),
        cards.line(TOKENS, "extrapolation/ppl", log_x=True),
        cards.line(TOKENS, "extrapolation/nll", log_x=True),
        cards.hidden(DOUBLINGS),
    ]


def _pictures(contents: Contents) -> list[cards.Card]:
    return [cards.pictures(PICTURES, f"{KEY}/layer {layer:02d}", 100) for layer in range(contents.layers)]


def _pictured(contents: Contents, pictures: bool) -> list[dict[str, Any]]:
    """The layers of one run stand side by side; several runs do so in the card of each layer."""
    return [cards.section(PICTURES, 2 if contents.drawn == 1 else 1, 400)] if pictures and contents.layers else []


def _closed() -> list[dict[str, Any]]:
    return [cards.section(name, 3, 320, shown=False) for name in (KEY, *CLOSED)]


def _columns(contents: Contents) -> dict[str, int]:
    """The table's columns and their widths."""
    params = {f"params.`{key}`": 110 for key in (*ALWAYS, *contents.varied)}
    return {**params, "params.`seed`": 70, **{f"metrics.`{key}`": 105 for key in contents.lengths}}


def _varied(runs: Sequence[Run]) -> list[str]:
    """Parameters that differ between the runs and are told in their cells: what follows from others is not."""
    words = {word for run in runs for word in run.data.tags.get(CELL, "").replace(",", " ").split()}
    names = sorted({key for run in runs for key in run.data.params} - {*ALWAYS, "seed"})
    told = [key for key in names if _word(key) in words]
    return [key for key in told if len({run.data.params.get(key) for run in runs}) > 1]


def _word(key: str) -> str:
    """By what a cell tells a parameter."""
    return "T" if key == "seq_len" else key.removeprefix("encoding_options.").removeprefix("swap_options.")
