"""A run's life: what it says from its first moment, and its status at every end."""

import pytest
import yaml
from mlflow.exceptions import MlflowException

from extrapo.figures import colour
from extrapo.tracking import Recorder, commit


def status(recorder):
    info = recorder.store.client.get_run(recorder.run_id).info
    return info.status, bool(info.end_time)


def test_a_new_run_says_what_it_is(store):
    tags = {"extrapo.corpus": "stdlib", "extrapo.corpus_sha256": "ab" * 32}
    recorder = Recorder.start(store, "name", config={"encoding": "cable", "layers": 3}, tags=tags)
    run = store.client.get_run(recorder.run_id)
    assert run.info.run_name == "name"
    assert run.data.params == {"encoding": "cable", "layers": "3"}
    assert run.data.tags["extrapo.encoding"] == "cable"
    assert run.data.tags["cell"] == "cable, 3 layers"
    assert run.data.tags["mlflow.runColor"] == colour("cable")
    assert run.data.tags["mlflow.source.name"] == "extrapo"
    assert run.data.tags.get("mlflow.source.git.commit") == commit()
    assert run.data.tags["extrapo.corpus_sha256"] == "ab" * 32
    (dataset,) = [one.dataset for one in run.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("stdlib", "ab" * 16)
    assert status(recorder) == ("RUNNING", False)


@pytest.mark.parametrize("end", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_it_is_told_and_resumes_without_an_end(store, recorder, end):
    recorder.finish(end)
    assert status(recorder) == (end, True)
    resumed = Recorder.resume(store, recorder.run_id)
    assert status(resumed) == ("RUNNING", False)
    resumed.finish("FINISHED")
    assert status(resumed) == ("FINISHED", True)


def test_a_resumed_run_keeps_its_parameters_and_takes_a_new_configuration_file(store, recorder):
    resumed = Recorder.resume(store, recorder.run_id)
    resumed.config({"encoding": "k-cable", "layers": 2, "steps": 900, "seed": 7})
    params = store.client.get_run(recorder.run_id).data.params
    assert params["seed"] == "0"
    assert params["steps"] == "900"
    assert yaml.safe_load((recorder.folder / "config.yaml").read_text())["seed"] == 7


def test_attaching_changes_nothing(store, recorder):
    recorder.finish("FINISHED")
    Recorder(store, recorder.run_id).tag("extrapo.note", "more")
    assert status(recorder) == ("FINISHED", True)


def test_checkpoints_are_tags_with_whole_paths(store, recorder):
    recorder.checkpoint(recorder.folder / "last.ckpt", recorder.folder / "best.ckpt")
    tags = store.client.get_run(recorder.run_id).data.tags
    assert tags["extrapo.checkpoint.last"] == str(store.root / recorder.run_id / "last.ckpt")
    assert tags["extrapo.checkpoint.best"] == str(store.root / recorder.run_id / "best.ckpt")


def test_a_run_that_is_gone_from_the_database_is_not_hidden(store):
    from mlflow.exceptions import MlflowException

    lost = Recorder(store, "0" * 32)
    for write in (
        lambda: lost.tag("key", "value"),
        lambda: lost.finish("FINISHED"),
        lambda: lost.heatmaps(0, []),
    ):
        with pytest.raises(MlflowException, match="not found"):
            write()


def test_two_runs_that_begin_at_once_with_a_new_text(store, monkeypatch):
    real, raced = store.client.log_inputs, []

    def racing(run_id, inputs):
        if not raced:
            other = store.client.create_run(store.experiment_id)
            raced.append(other.info.run_id)
            real(other.info.run_id, inputs)
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name")
        real(run_id, inputs)

    monkeypatch.setattr(store.client, "log_inputs", racing)
    tags = {"extrapo.corpus": "stdlib", "extrapo.corpus_sha256": "ab" * 32}
    recorder = Recorder.start(store, "mine", config={}, tags=tags)
    assert raced
    (dataset,) = store.client.get_run(recorder.run_id).inputs.dataset_inputs
    assert dataset.dataset.name == "stdlib"
