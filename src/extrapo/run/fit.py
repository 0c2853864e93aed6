"""The main job: text, model, training, curve, heatmaps, record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.evaluation import Point, protocol_of
from extrapo.location import Location
from extrapo.run.callbacks import ComputePath, Curve, LastValidation, Products
from extrapo.run.checkpoints import BestCheckpoint, LastCheckpoint
from extrapo.run.divergence import Divergence, check_measured, watch_loss
from extrapo.run.explore import record_explorer
from extrapo.run.initial import Start
from extrapo.run.job import Job, make_job
from extrapo.run.ranks import further_ranks
from extrapo.run.record import abandon, heatmaps, record_curve, recorded_status, start_record, terminable
from extrapo.run.report import record_report
from extrapo.run.reporter import Reporter, Silent
from extrapo.run.setup import World, reading
from extrapo.run.speed import Speed
from extrapo.run.trainer import make_trainer
from extrapo.run.training_record import TrainingRecord
from extrapo.run.unheard import answered
from extrapo.tracking import Recorder, RunStore, recorded_run
from extrapo.tracking.machine_load import check_available, machine_load


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        run_id: the MLflow run; empty on further ranks.
        config: the resolved configuration.
        points: the curve; empty if the run was interrupted.
        tokens_per_second: of training, over all devices.
        checkpoint: the weights that the curve belongs to.
        picture: the curve as a picture.
        heatmap: the biases of the last layer at the end of training, as a picture; None where none lies here.
        impl: the compute path of attention.
        skipped_steps: how many had a loss that is no number and were left out.
        interrupted_at: the optimiser step at which a signal stopped the run, None if it ended by itself.
    """

    run_id: str
    config: ResolvedConfig
    points: list[Point]
    tokens_per_second: float
    checkpoint: Path
    picture: Path | None
    heatmap: Path | None
    impl: str
    skipped_steps: int
    interrupted_at: int | None

    def summary(self) -> dict[str, Any]:
        """The document that `extrapo fit --json` prints."""
        return {
            "run_id": self.run_id,
            "encoding": self.config.encoding,
            "layers": self.config.layers,
            "train_length": self.config.seq_len,
            "steps": self.config.steps,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "curve": [point.row() for point in self.points],
            "checkpoint": str(self.checkpoint),
            "impl": self.impl,
            "skipped_steps": self.skipped_steps,
        }


def fit(
    config: RunConfig,
    reporter: Reporter = Silent(),  # noqa: B008
    *,
    tags: Mapping[str, str] | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Result:
    """Train, measure the curve, draw the biases, record all of it.

    Args:
        config: the run; derived values are filled in.
        reporter: where people read.
        tags: more MLflow tags.
        callbacks: more Lightning callbacks.

    Raises:
        UserError: a mistake in the configuration or in the text, before anything is written.
        KeyboardInterrupt: a second signal, or one after training; what was trained is saved.
    """
    if config.system_metrics:
        check_available()
    start = None if config.init is None else Start.of(config)
    config = config if start is None else start.continued(config)
    job = make_job(config, reporter, start and start.tokenizer)
    loaded = start and start.into(job.module.gpt, job.reporter.say)
    if not job.world.is_rank_zero:
        return train(job, None, Location.of(config).root, callbacks=callbacks)
    with terminable():
        store = RunStore.open(Location.of(config), config.experiment)
        recorder = start_record(store, job.config, job.corpus, job.module.gpt, tags)
        if loaded is not None:
            with recorder.ended_early():
                loaded.record(recorder)
        return train(job, recorder, recorder.folder, callbacks=callbacks)


def train(
    job: Job,
    recorder: Recorder | None,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Result:
    """Train, from the start or from a checkpoint, and record what comes of it.

    Args:
        job: what to train, on what.
        recorder: the run's record; None on further ranks.
        folder: of the run's checkpoints.
        checkpoint: where to go on.
        callbacks: more Lightning callbacks.
    """
    last = LastCheckpoint(folder, job.config.val_every, job.reporter.say)
    with recorded_status(recorder, last, job.reporter.say) as recorder:
        own = make_callbacks(job, folder, last)
        if recorder is not None:
            job.reporter.say(f"run {recorder.run_id} ({job.config.name})")
        drawing = heatmaps(job.config, job.corpus.validation, recorder, job.reporter.say)
        logger = recorder.logger() if recorder is not None else None
        trainer = make_trainer(job.config, job.world, folder, logger, [*own.every(), *callbacks, *drawing])
        with machine_load(recorder if job.config.system_metrics else None), waiting(job.world, trainer, recorder, last):
            trainer.fit(job.module, job.loader, job.validation, ckpt_path=checkpoint, weights_only=True)
        picture = None
        if recorder is not None:
            recorder.checkpoint(own.last.path, Path(own.best.best_model_path or own.last.path))
            picture = record_curve(recorder, job.config, own.curve.points, job.corpus, trainer.global_step)
        check_measured(own.curve.points)
    heatmap = None
    if recorder is not None and recorder.is_delivered:
        # Both are made of what the store has.
        record_explorer(recorder, job.config, job.corpus.tokenizer)
        recorded = recorded_run(recorder.store, recorder.run_id)
        record_report(recorder, recorded, picture)
        heatmap = recorded.last_heatmap()
    return Result(
        run_id=recorder.run_id if recorder is not None else "",
        config=job.config,
        points=own.curve.points,
        tokens_per_second=own.speed.tokens_per_second,
        checkpoint=own.last.path,
        picture=picture,
        heatmap=heatmap,
        impl=own.path.impl,
        skipped_steps=own.divergence.skipped or 0,
        interrupted_at=trainer.global_step if own.last.interrupted else None,
    )


@contextmanager
def waiting(world: World, trainer: L.Trainer, recorder: Recorder | None, last: LastCheckpoint) -> Iterator[None]:
    """The further ranks of a training, if it has any; one that waits in vain for another one ends all the same."""
    if world.size == 1:
        yield
        return
    line = "interrupted while it waited for another process of this training"
    with (
        answered(last.needed, partial(abandon, recorder, line, "KILLED", 130)),
        further_ranks(trainer, partial(abandon, recorder)),
    ):
        yield


@dataclass(frozen=True)
class Callbacks:
    """What happens beside every training, to be asked afterwards."""

    path: ComputePath
    speed: Speed
    divergence: Divergence
    record: TrainingRecord
    curve: Curve
    progress: L.Callback
    best: BestCheckpoint
    last: LastCheckpoint

    def every(self) -> list[L.Callback]:
        """All of them, in the order in which they are called."""
        return [
            self.path,
            Products(),
            LastValidation(),
            self.speed,
            self.divergence,
            self.record,
            self.curve,
            self.progress,
            self.best,
            self.last,
        ]


def make_callbacks(job: Job, folder: Path, last: LastCheckpoint) -> Callbacks:
    """The callbacks of one training, whose checkpoints go to `folder`; `last` is one of them."""
    config, reporter, tokenizer = job.config, job.reporter, job.corpus.tokenizer
    speed, divergence = Speed(config), watch_loss(config, last.path, reporter.say)
    return Callbacks(
        path=ComputePath(reporter.say, (config.micro_batch, config.seq_len)),
        speed=speed,
        divergence=divergence,
        record=TrainingRecord(config, speed, divergence),
        last=last,
        best=BestCheckpoint(folder),
        curve=Curve(
            job.corpus.validation,
            job.lengths,
            config.eval_tokens,
            protocol_of(config),
            config.steps,
            token_bytes=tokenizer.token_bytes(),
            reading=reading(config, tokenizer),
            skip=lambda: last.interrupted,
            progress=reporter.curve_progress,
        ),
        progress=reporter.training_progress(speed, config.steps),
    )
