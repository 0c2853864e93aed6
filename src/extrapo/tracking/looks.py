"""What the layers of a run do on the start of its validation text, step by step, as arrays: what the explorer is of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extrapo.tracking.fetching import fetched
from extrapo.tracking.heatmaps import FLOAT16_LIMIT

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from extrapo.evaluation.look import LayerLook

FOLDER = "looks"
#: The parts of a look, as they are kept, in the order of its fields; bias and weights in half precision.
PARTS = {"bias": np.float16, "weights": np.float16, "positions": np.float32, "gates": np.float32}


class Looks(NamedTuple):
    """What was recorded of a run.

    Args:
        tokens: ids of the text that was looked at.
        steps: one look per layer by optimiser step.
    """

    tokens: list[int]
    steps: dict[int, list[LayerLook]]


def name(step: int) -> str:
    """Of the file with the looks of a step."""
    return f"step-{step:06d}.npz"


def keep(path: Path, layers: Sequence[LayerLook], tokens: NDArray[np.integer[Any]]) -> None:
    """Leave a file with `tokens`, their ids, and `layer NN PART` for each of PARTS that a layer has, of the first
    tokens alone.
    """
    from extrapo.figures.explorer.page import TOKENS

    arrays: dict[str, NDArray[Any]] = {"tokens": np.asarray(tokens[:TOKENS], dtype=np.int64)}
    for number, layer in enumerate(layers):
        shown = layer.first(TOKENS)
        for part, kind in PARTS.items():
            values = getattr(shown, part)
            if values is not None:
                finite = np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max(initial=0)
                arrays[f"layer {number:02d} {part}"] = values.astype(kind if finite < FLOAT16_LIMIT else np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def send(client: MlflowClient, run_id: str, path: Path) -> None:
    """Record it as `looks/step-NNNNNN.npz`."""
    client.log_artifact(run_id, str(path), FOLDER)


def recorded_looks(client: MlflowClient, run_id: str) -> Looks | None:
    """All that was recorded; None of a run that was recorded without."""
    from extrapo.evaluation.look import LayerLook

    tokens: list[int] = []
    found: dict[int, list[LayerLook]] = {}
    for artifact in client.list_artifacts(run_id, FOLDER):
        named = re.search(r"step-(\d+)\.npz$", artifact.path)
        if named is None:
            continue
        with fetched(client, run_id, artifact.path) as file, np.load(file) as arrays:
            tokens = arrays["tokens"].tolist()
            layers = sorted({name.rpartition(" ")[0] for name in arrays if name != "tokens"})
            found[int(named[1])] = [
                LayerLook(**{part: arrays[f"{layer} {part}"] for part in PARTS if f"{layer} {part}" in arrays})
                for layer in layers
            ]
    return Looks(tokens, dict(sorted(found.items()))) if found else None
