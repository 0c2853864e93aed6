"""What is read of a run leaves nothing among the temporary files."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extrapo.errors import MachineError
from extrapo.evaluation.look import LayerLook
from extrapo.tracking import recorded_run
from extrapo.tracking.fetching import fetched
from extrapo.tracking.looks import recorded_looks


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_copy_is_there_while_it_is_read(recorder, temporary: Path) -> None:
    with fetched(recorder.store.client, recorder.run_id, "config.yaml") as file:
        assert "k-cable" in file.read_text()
        assert temporary in file.parents
    assert not any(temporary.iterdir())


def test_nothing_is_left_of_looks(recorder, temporary: Path) -> None:
    values = np.ones((1, 4, 4), dtype=np.float32)
    for step in range(3):
        recorder.looks(step, [LayerLook(values, values)], np.arange(4))
    assert list(recorded_looks(recorder.store.client, recorder.run_id).steps) == [0, 1, 2]
    assert not any(temporary.iterdir())


def test_nothing_is_left_of_a_run_whose_artifacts_are_elsewhere(recorder, rows, biases, temporary: Path) -> None:
    """As on a server, of which no folder is known."""
    recorder.heatmaps(0, biases(1))
    recorder.curve(rows({64: 8.0}), train_length=64, encoding="k-cable", step=1)
    run = replace(recorded_run(recorder.store, recorder.run_id), artifacts="mlflow-artifacts:/x")
    assert (run.config["layers"], [row["length"] for row in run.curve], run.blocks) == (2, [64], {})
    assert run.document("config.json") is None
    np.testing.assert_array_equal(run.heatmaps()[0][0], biases(1)[0])
    with pytest.raises(MachineError, match="cannot be read from where it lies"), run._file("none.json"):
        pass
    assert not any(temporary.iterdir())
