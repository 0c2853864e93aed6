"""The bias matrices of a run in MLflow: a picture per layer and step, and the arrays themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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


def record(client: MlflowClient, run_id: str, step: int, biases: Sequence[NDArray[np.floating[Any]]]) -> None:
    """Log `bias/layer NN` for every (H, T, T), and `biases/step-NNNNNN.npz` with a key per layer."""
    encoding = client.get_run(run_id).data.tags.get("extrapo.encoding", "bias")
    arrays = {f"layer {layer:02d}": _compact(np.asarray(bias)) for layer, bias in enumerate(biases)}
    for name, bias in zip(arrays, biases, strict=True):
        figure = figures.heatmap_figure(np.asarray(bias), title=f"{encoding}, {name}, step {step:,}")
        client.log_image(run_id, figures.to_array(figure), key=f"bias/{name}", step=step)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"step-{step:06d}.npz"
        np.savez_compressed(path, allow_pickle=False, **arrays)
        client.log_artifact(run_id, str(path), FOLDER)
    client.set_tag(run_id, LAYERS, len(biases))
    client.set_tag(run_id, STEP, step)


def _compact(bias: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Half precision where the values fit it, single elsewhere."""
    largest = np.abs(bias, where=np.isfinite(bias), out=np.zeros_like(bias)).max(initial=0)
    return bias.astype(np.float16 if largest < FLOAT16_LIMIT else np.float32)
