"""One real store for the tests of this folder: its creation takes seconds, a run in it milliseconds."""

import math

import numpy as np
import pytest

from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, server


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return RunStore.open(Location(tmp_path_factory.mktemp("tracking") / "my runs"))


@pytest.fixture
def recorder(store):
    config = {"encoding": "k-cable", "layers": 2, "seed": 0, "seq_len": 64, "lengths": (64, 128)}
    return Recorder.start(store, "k-cable-2l-s0", config=config)


@pytest.fixture(scope="session")
def rows():
    """Makes the rows of a curve from {length: perplexity or None}."""

    def make(curve):
        return [
            {
                "length": length,
                "nll": None if ppl is None else min(math.log(ppl), 900.0),
                "ppl": ppl,
                "tokens": 4096,
                "protocol": "disjoint",
                "stride": length,
            }
            for length, ppl in curve.items()
        ]

    return make


@pytest.fixture(scope="session")
def biases():
    """Makes the biases of so many layers, (2, 16, 16) each, -inf in the future."""

    def make(layers, slope=-1.0):
        distance = np.arange(16)[:, None] - np.arange(16)[None]
        bias = np.stack([slope * distance, slope / 2 * distance]).astype(np.float32)
        bias[:, distance < 0] = -np.inf
        return [bias * (layer + 1) for layer in range(layers)]

    return make


@pytest.fixture(scope="session")
def here(store, rows, biases):
    """Two finished runs with curves and heatmaps, in an experiment of their own."""
    here = RunStore.open(store.location, experiment="served")
    for seed, encoding in enumerate(("alibi", "k-cable")):
        config = {"encoding": encoding, "layers": 2, "seed": seed, "steps": 300}
        recorder = Recorder.start(here, f"{encoding}-served", config=config)
        for step in (0, 300):
            recorder.heatmaps(step, biases(2, slope=-1.0 - step))
        curve = rows({64: 8.0, 128: 8.5 + seed, 256: 9.0 + 4 * seed})
        recorder.curve(curve, train_length=64, encoding=encoding, step=300)
        recorder.finish("FINISHED")
    return here


@pytest.fixture(scope="session")
def served(here):
    with server.serve(here.location) as running:
        yield running
