"""Lightning writes scalars through the logger, and nothing else of the run."""

import math
import warnings

import pytest

from extrapo.tracking.store import RunStore


def fit(recorder, fail=False):
    from lightning.pytorch import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Model(BoringModel):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"seed": 99, "new": 1})

        def training_step(self, batch, batch_idx):
            if fail and batch_idx == 2:
                raise RuntimeError("as told")
            loss = self.step(batch)
            self.log("train/loss", loss)
            return {"loss": loss}

    settings = {"max_steps": 4, "log_every_n_steps": 1, "limit_val_batches": 0, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(logger=recorder.logger(), default_root_dir=recorder.folder, **settings, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Model())
    return trainer


def run(recorder):
    return recorder.store.client.get_run(recorder.run_id)


def test_a_fit_writes_scalars_and_leaves_status_and_parameters_alone(recorder):
    before = run(recorder).data.params
    trainer = fit(recorder)
    steps = [m.step for m in recorder.store.client.get_metric_history(recorder.run_id, "train/loss")]
    assert steps == [0, 1, 2, 3]
    assert run(recorder).info.status == "RUNNING"
    assert run(recorder).data.params == before
    assert "epoch" not in run(recorder).data.metrics
    assert trainer.log_dir == str(recorder.folder)


def test_a_fit_that_fails_leaves_the_verdict_to_the_recorder(recorder):
    with pytest.raises(RuntimeError, match="as told"):
        fit(recorder, fail=True)
    assert run(recorder).info.status == "RUNNING"
    recorder.finish("FAILED")
    assert run(recorder).info.status == "FAILED"


def test_infinities_do_not_reach_the_chart(recorder):
    recorder.logger().log_metrics({"train/loss": math.inf, "epoch": 3}, step=5)
    (point,) = recorder.store.client.get_metric_history(recorder.run_id, "train/loss")
    assert math.isnan(point.value)
    assert isinstance(recorder.store, RunStore)
