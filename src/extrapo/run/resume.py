"""Continuing a run exactly where it stopped: the same batches, the same random state, the same record."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L

from extrapo.data import Corpus
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.checkpoints import check_resumable
from extrapo.run.find import CHECKPOINT, TOKENIZER, parsed_config
from extrapo.run.fit import Result, train
from extrapo.run.initial import Start
from extrapo.run.job import make_job
from extrapo.run.record import terminable
from extrapo.run.reporter import Reporter, Silent
from extrapo.tracking import RecordedRun, Recorder, RunStore, recorded_run


def resume(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    *,
    callbacks: Sequence[L.Callback] = (),
) -> Result:
    """Go on with a recorded run, as it was configured.

    Args:
        run: its id, the beginning of it, its name, or `last`.
        location: where it is recorded.
        reporter: where people read.
        callbacks: more Lightning callbacks.

    Raises:
        UserError: no such run, or its text is no longer there, or another one than it was.
        KeyboardInterrupt: a second signal, or one after training; what was trained is saved.
    """
    recorded = recorded_run(RunStore.existing(location), run)
    folder = location.folder(recorded.run_id)
    here = {"root": str(location.root), "tracking_uri": location.tracking_uri}
    config = parsed_config(recorded.config, str(folder / "config.yaml")).model_copy(update=here)
    checkpoint = folder / CHECKPOINT if (folder / CHECKPOINT).is_file() else None
    start, tokenizer = None, None
    if config.init is not None:
        tokenizer = folder / TOKENIZER
        if checkpoint is None:
            # What it starts from is only needed where it has to start again.
            start = Start.of(config)
            tokenizer = start.tokenizer
    job = make_job(config, reporter, tokenizer)
    check_text(recorded, job.corpus)
    if checkpoint is not None:
        check_resumable(checkpoint, job.module)
    else:
        job.reporter.say(f"there is no checkpoint in {folder}: the run starts again")
        if start is not None:
            start.into(job.module.gpt, job.reporter.say)
    if not job.world.is_rank_zero:
        return train(job, None, folder, checkpoint=checkpoint, callbacks=callbacks)
    store = RunStore.open(location, config.experiment)
    with terminable():
        recorder = Recorder.resume(store, recorded.run_id)
        if checkpoint is None:
            with recorder.ended_early():
                # It may have been stopped before it had written it down.
                recorder.file(TOKENIZER, job.corpus.tokenizer.to_json())
        return train(job, recorder, folder, checkpoint=checkpoint, callbacks=callbacks)


def check_text(recorded: RecordedRun, corpus: Corpus) -> None:
    """Whether a text is the one that a run was trained on so far, to the letter: its places in it mean nothing else.

    Raises:
        UserError: it is another.
    """
    before = recorded.tags.get("extrapo.corpus_sha256", corpus.sha256)
    if before != corpus.sha256:
        raise UserError(
            f"run {recorded.run_id[:8]} was trained on another text: sha256 {before[:12]}, and that of {corpus.name} "
            f"is {corpus.sha256[:12]} now; bring the text back, or start a new run"
        )
