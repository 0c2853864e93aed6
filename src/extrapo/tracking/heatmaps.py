"""The bias matrices of a run in MLflow: a picture per layer and step, and the arrays themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo import figures

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "biases"
LAYERS = "extrapo.bias_layers"
STEP = "extrapo.bias_step"
FLOAT16_LIMIT = 6e4


def draw(folder: Path, encoding: str, step: int, biases: Sequence[NDArray[np.floating[Any]]]) -> None:
    """Leave a picture of every (H, T, T), and all of them as arrays with a key per layer, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {_layer(number): _compact(np.asarray(bias)) for number, bias in enumerate(biases)}
    for name, bias in zip(arrays, biases, strict=True):
        figure = figures.heatmap_figure(np.asarray(bias), title=f"{encoding}, {name}, step {step:,}")
        figures.save(figure, folder / f"{name}.png")
    np.savez_compressed(folder / _arrays(step), allow_pickle=False, **arrays)


def send(client: MlflowClient, run_id: str, step: int, layers: int, folder: Path) -> None:
    """Record `bias/layer NN` for every layer, unless it is there, and `biases/step-NNNNNN.npz`."""
    there = [artifact.path for artifact in client.list_artifacts(run_id, "images")]
    for number in range(layers):
        name = _layer(number)
        # MLflow would show a second one of the same step beside the first; the small one is written last.
        begin, end = f"images/bias~{name}+step+{step}+", "+compressed.webp"
        if not any(path.startswith(begin) and path.endswith(end) for path in there):
            picture = figures.of_file(folder / f"{name}.png")
            client.log_image(run_id, picture, key=f"bias/{name}", step=step)
    client.log_artifact(run_id, str(folder / _arrays(step)), FOLDER)
    client.set_tag(run_id, LAYERS, layers)
    client.set_tag(run_id, STEP, step)


def _layer(number: int) -> str:
    return f"layer {number:02d}"


def _arrays(step: int) -> str:
    return f"step-{step:06d}.npz"


def _compact(bias: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Half precision where the values fit it, single elsewhere."""
    largest = np.abs(bias, where=np.isfinite(bias), out=np.zeros_like(bias)).max(initial=0)
    return bias.astype(np.float16 if largest < FLOAT16_LIMIT else np.float32)
