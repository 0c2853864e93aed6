"""The heatmaps of a run in MLflow: a picture per layer and step, as artifacts with plain names, and the arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extrapo import figures

if TYPE_CHECKING:
    from mlflow import MlflowClient

Matrices: TypeAlias = Sequence[NDArray[np.floating[Any]]]
Kind: TypeAlias = Literal["bias", "weights"]

#: The folder of pictures, and the key that all runs share, whatever they draw and however many steps they take.
KEY = "heatmaps"
#: The folder of the biases' arrays, that of the weights', and what the picture's scale is of.
FOLDERS = {"bias": "biases", "weights": "weights"}
QUANTITIES = {"bias": "bias (nats)", "weights": "log10 of the weight"}
#: Where the pictures of a step wait for the store.
PICTURES = "pictures"
#: In a file of arrays beside the layers: the ids of the sample's tokens, (T,).
TOKENS = "tokens"
#: How the name of the small copy ends, which MLflow writes last, and the tag that shows pictures at all.
SMALL, SHOWN = "+compressed.webp", "mlflow.loggedImages"
LAYERS = "extrapo.bias_layers"
STEP = "extrapo.bias_step"
FLOAT16_LIMIT = 6e4


def draw(
    folder: Path,
    encoding: str,
    step: int,
    matrices: Matrices,
    *,
    kind: Kind = "bias",
    tokens: NDArray[np.integer[Any]] | None = None,
) -> None:
    """Leave a picture of what every layer has at a step, and the arrays with a key per layer, in a folder of their own.

    Args:
        folder: where.
        encoding: for the titles.
        step: optimiser steps taken.
        matrices: (H, T, T) of each layer, -inf where a key is not seen.
        kind: `bias`, or `weights`: log10 of them.
        tokens: (T,) ids of the sample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {_layer(number): _compact(np.asarray(matrix)) for number, matrix in enumerate(matrices)}
    for number, (name, matrix) in enumerate(zip(arrays, matrices, strict=True)):
        title = f"{encoding}, {name}, step {step:,}"
        figure = figures.heatmap_figure(np.asarray(matrix), title=title, quantity=QUANTITIES[kind])
        figures.save_pixels(figures.to_array(figure), folder / PICTURES / _picture(number))
    sample = {} if tokens is None else {TOKENS: np.asarray(tokens)}
    np.savez_compressed(folder / _arrays(step), allow_pickle=False, **arrays, **sample)


def send(client: MlflowClient, run_id: str, step: int, layers: int, folder: Path, kind: Kind = "bias") -> None:
    """Record what was drawn of a step.

    Three times as pictures: under `KIND/layer NN` at the optimiser step, under `heatmaps/layer NN` at the percent of
    the training that is over, so that runs of any number of steps stand side by side, and as the artifact
    `heatmaps/step-NNNNNN/layer-NN.png`; once as arrays, `biases/step-NNNNNN.npz`, with a key per layer.
    """
    there = [artifact.path for artifact in client.list_artifacts(run_id, "images")]
    percent = _percent(step, client.get_run(run_id).data.params)
    for number in range(layers):
        picture = figures.of_file(folder / PICTURES / _picture(number))
        for key, at in ((kind, step), (KEY, percent)):
            # MLflow would show a second one of the same step beside the first; the small one is written last.
            begin = f"images/{key}~{_layer(number)}+step+{at}+"
            large = [path for path in there if path.startswith(begin) and path.endswith(".png")]
            if not large:
                client.log_image(run_id, picture, key=f"{key}/{_layer(number)}", step=at)
            elif not any(f"{path.removesuffix('.png')}{SMALL}" in there for path in large):
                _complete(client, run_id, picture, large[0])
    if layers:
        client.set_tag(run_id, SHOWN, True)
    for number in range(layers):
        # One by one: beside them may lie the half of one, of a process that was killed.
        client.log_artifact(run_id, str(folder / PICTURES / _picture(number)), f"{KEY}/step-{step:06d}")
    client.log_artifact(run_id, str(folder / _arrays(step)), FOLDERS[kind])
    client.set_tag(run_id, LAYERS, layers)
    client.set_tag(run_id, STEP, step)


def _complete(client: MlflowClient, run_id: str, picture: NDArray[np.uint8], large: str) -> None:
    """Both pictures under the name of the large one, which is whole or half: its process died before the small one."""
    from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image

    image, name = convert_to_pil_image(picture), Path(large).name
    with TemporaryDirectory() as folder:
        image.save(Path(folder, name))
        compress_image_size(image).save(Path(folder, f"{name.removesuffix('.png')}{SMALL}"))
        client.log_artifacts(run_id, folder, "images")


def _layer(number: int) -> str:
    return f"layer {number:02d}"


def _picture(number: int) -> str:
    return f"layer-{number:02d}.png"


def _arrays(step: int) -> str:
    return f"step-{step:06d}.npz"


def _percent(step: int, params: Mapping[str, str]) -> int:
    """How much of the training is over; where nobody says how long it is, what is drawn after its start is its end."""
    steps = int(params.get("steps", step)) or 1
    return min(100, round(100 * step / steps))


def _compact(bias: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Half precision where the values fit it, single elsewhere."""
    largest = np.abs(bias, where=np.isfinite(bias), out=np.zeros_like(bias)).max(initial=0)
    return bias.astype(np.float16 if largest < FLOAT16_LIMIT else np.float32)
