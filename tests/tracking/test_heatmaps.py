"""Heatmaps are a picture per layer and step, and the arrays behind them."""

from pathlib import Path

import numpy as np
from PIL import Image

from extrapo.tracking import Recorder, heatmaps, recorded_run


def test_every_layer_has_a_picture_at_every_step_and_one_by_percent(store, biases):
    config = {"encoding": "k-cable", "layers": 2, "steps": 300}
    recorder = Recorder.start(store, "drawn", config=config)
    recorder.heatmaps(0, biases(2))
    recorder.heatmaps(150, biases(2, slope=-2.0))
    names = [artifact.path for artifact in store.client.list_artifacts(recorder.run_id, "images")]
    pictures = [name for name in names if name.endswith(".png")]
    assert len(pictures) == 8
    for layer in (0, 1):
        for key, step in (("bias", 0), ("bias", 150), ("heatmaps", 0), ("heatmaps", 50)):
            (path,) = [p for p in pictures if p.startswith(f"images/{key}~layer {layer:02d}+step+{step}+")]
            with Image.open(store.client.download_artifacts(recorder.run_id, path)) as picture:
                assert picture.width == picture.height > 600
    assert store.client.get_run(recorder.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_pictures_have_plain_names_and_arrays_the_tokens(store, recorder, biases):
    recorder.heatmaps(40, biases(2), tokens=np.arange(16))
    names = {artifact.path for artifact in store.client.list_artifacts(recorder.run_id, "heatmaps/step-000040")}
    assert names == {f"heatmaps/step-000040/layer-0{layer}.png" for layer in (0, 1)}
    with np.load(store.client.download_artifacts(recorder.run_id, "biases/step-000040.npz")) as arrays:
        np.testing.assert_array_equal(arrays["tokens"], np.arange(16))
    assert len(recorded_run(store, recorder.run_id).heatmaps()[40]) == 2


def test_the_arrays_read_back_in_order_of_steps_and_layers(store, recorder, biases):
    given = {300: biases(3, slope=-2.0), 0: biases(3)}
    for step, layers in given.items():
        recorder.heatmaps(step, layers)
    found = recorded_run(store, recorder.run_id).heatmaps()
    assert list(found) == [0, 300]
    for step, layers in given.items():
        assert len(found[step]) == 3
        for mine, theirs in zip(layers, found[step], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_values_beyond_half_precision_survive(store, recorder, biases):
    large = [bias * 1e5 for bias in biases(1)]
    recorder.heatmaps(0, large)
    np.testing.assert_array_equal(recorded_run(store, recorder.run_id).heatmaps()[0][0], large[0])


def test_what_died_between_a_picture_and_its_small_copy_is_completed(store, recorder, biases):
    recorder.heatmaps(8, biases(2))
    images = artifact_folder(store, recorder) / "images"
    whole = {path.name: path.read_bytes() for path in images.iterdir()}
    assert len(whole) == 8
    lost, *_ = sorted(images.glob("*.webp"))
    half = lost.with_name(lost.name.replace("+compressed.webp", ".png"))
    lost.unlink()
    half.write_bytes(half.read_bytes()[:100])
    for _ in range(2):
        recorder.heatmaps(8, biases(2))
        assert {path.name for path in images.iterdir()} == set(whole)
    with Image.open(half) as picture:
        assert picture.width > 600


def artifact_folder(store, recorder):
    return Path(store.client.get_run(recorder.run_id).info.artifact_uri)


def test_half_a_picture_of_a_killed_process_is_not_sent(store, recorder, biases, tmp_path):
    heatmaps.draw(tmp_path, "k-cable", 0, biases(1))
    half = next(tmp_path.rglob("layer-00.png")).with_name(".layer-00.png.somewhere-4194305.partial")
    half.write_bytes(b"")
    heatmaps.send(store.client, recorder.run_id, 0, 1, tmp_path)
    sent = [file.path for file in store.client.list_artifacts(recorder.run_id, "heatmaps/step-000000")]
    assert sent == ["heatmaps/step-000000/layer-00.png"]
