"""Heatmaps are a picture per layer and step, and the arrays behind them."""

import numpy as np
from PIL import Image

from extrapo.tracking import recorded_run


def test_every_layer_has_a_picture_at_every_step(store, recorder, biases):
    recorder.heatmaps(0, biases(2))
    recorder.heatmaps(300, biases(2, slope=-2.0))
    names = [artifact.path for artifact in store.client.list_artifacts(recorder.run_id, "images")]
    pictures = [name for name in names if name.endswith(".png")]
    assert len(pictures) == 4
    for layer in (0, 1):
        for step in (0, 300):
            (path,) = [p for p in pictures if p.startswith(f"images/bias~layer {layer:02d}+step+{step}+")]
            with Image.open(store.client.download_artifacts(recorder.run_id, path)) as picture:
                assert picture.width > picture.height > 200
    assert store.client.get_run(recorder.run_id).data.tags["mlflow.loggedImages"] == "True"


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
