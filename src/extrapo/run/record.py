"""What of a run goes into MLflow: how it began, its biases, its curve, and how it ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from extrapo.config import ResolvedConfig
from extrapo.data import Corpus, HeldOut
from extrapo.errors import Interrupted
from extrapo.evaluation import Point
from extrapo.evaluation.look import LayerLook
from extrapo.evaluation.scores import scores
from extrapo.gpt import GPT
from extrapo.interruption import stops, undropped
from extrapo.location import redacted
from extrapo.run.callbacks import Biases, drawing_steps, has_bias
from extrapo.run.checkpoints import LastCheckpoint
from extrapo.tracking import Recorder, RunStore
from extrapo.tracking.entries import Status


def start_record(
    store: RunStore, config: ResolvedConfig, corpus: Corpus, gpt: GPT, tags: Mapping[str, str] | None = None
) -> Recorder:
    """A new MLflow run with its configuration and its tokenizer.

    Args:
        store: where.
        config: of the run.
        corpus: what it trains on.
        gpt: what it trains.
        tags: more tags.
    """
    own = {
        "extrapo.encoding": config.encoding,
        "extrapo.corpus": corpus.name,
        "extrapo.corpus_sha256": corpus.sha256,
        "extrapo.tokenizer": corpus.tokenizer.name,
        "extrapo.parameters": str(gpt.num_parameters()),
    }
    settings = config.model_dump(mode="json")
    if config.tracking_uri is not None:
        settings["tracking_uri"] = redacted(config.tracking_uri)
    with terminable():
        # MLflow has the run before it has said so: who is stopped in between would not know which to end.
        with held() as came:
            recorder = Recorder.start(store, config.name, config=settings, tags={**own, **(tags or {})})
        with recorder.ended_early():
            if came:
                raise KeyboardInterrupt
            recorder.file("tokenizer.json", corpus.tokenizer.to_json())
    return recorder


@contextmanager
def recorded_status(
    recorder: Recorder | None, last: LastCheckpoint, say: Callable[[str], None]
) -> Iterator[Recorder | None]:
    """Leave the run FINISHED, FAILED, or KILLED by a signal, whatever happens inside, with a record that is patient.

    Args:
        recorder: the run's record; None on further ranks.
        last: knows whether a signal stopped the run.
        say: receives a line when the store is away.
    """
    is_ours = False
    try:
        with terminable():
            recorder = recorder and recorder.patient(say)
            is_ours = True
            yield recorder
    except BaseException as cause:
        # Lightning turns a KeyboardInterrupt into SystemExit(1).
        stopped = last.interrupted or isinstance(cause, KeyboardInterrupt | SystemExit)
        # Where the database is what failed, the first failure is the one to tell.
        with suppress(Exception):
            # A run that another process is at work on has its status from there.
            if recorder is not None and (is_ours or stopped):
                recorder.finish("KILLED" if stopped else "FAILED")
        if isinstance(cause, SystemExit | KeyboardInterrupt):
            raise (KeyboardInterrupt() if recorder is None else Interrupted(recorder.run_id)) from cause
        raise
    if recorder is not None:
        # What is left is delivered first, which may take a while: stopped in it, the run would be RUNNING for ever.
        with held() as came:
            recorder.finish("KILLED" if last.interrupted else "FINISHED")
        if came:
            raise KeyboardInterrupt


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM is Ctrl-C while the block runs, and so is the end of a terminal, where nothing else takes SIGTERM; in a
    thread that may take signals.

    All raise KeyboardInterrupt, also while a library loads: there is a record to close.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in stops()
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        with undropped():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def abandon(recorder: Recorder | None, line: str, status: Status = "FAILED", code: int = 1) -> None:
    """End this process from another thread: the one that trains waits for another process, and hears nothing.

    Args:
        recorder: the run's record.
        line: why.
        status: of the run.
        code: the exit code.
    """
    with suppress(Exception):
        if recorder is not None:
            recorder.finish(status)
    # A progress bar hides the cursor.
    shown = "\x1b[?25h" if os.isatty(2) else ""
    os.write(2, f"{shown}extrapo: error: {line}\n".encode())
    os._exit(code)


@contextmanager
def held() -> Iterator[list[int]]:
    """A first signal only comes into the list that this gives, a second one raises KeyboardInterrupt; within
    `terminable`, in a thread that may take signals.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    ours = [n for n in stops() if signal.getsignal(n) is signal.default_int_handler]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number in ours:
            signal.signal(number, signal.default_int_handler)


def heatmaps(
    config: ResolvedConfig, tokens: np.ndarray[Any, Any], recorder: Recorder | None, say: Callable[[str], None]
) -> list[Biases]:
    """The callback that draws the biases as often as the configuration says; none if that is never.

    Args:
        config: of the run.
        tokens: (N,) validation tokens.
        recorder: where the pictures go; None on further ranks, which compute all the same.
        say: receives a line where there is nothing to draw.
    """
    if not config.heatmaps:
        return []
    steps = drawing_steps(config.heatmaps, config.steps)
    return [Biases(tokens, config.seq_len, steps, partial(_draw, recorder, say, steps[-1], tokens[: config.seq_len]))]


def _draw(
    recorder: Recorder | None,
    say: Callable[[str], None],
    last: int,
    tokens: np.ndarray[Any, Any],
    step: int,
    looks: list[LayerLook],
) -> None:
    """Record what the layers do at one step, and heatmaps: of biases, or of weights where nothing is added."""
    if recorder is None:
        return
    recorder.looks(step, looks, tokens)
    biases = [look.bias for look in looks]
    if has_bias(biases):
        recorder.heatmaps(step, biases, tokens=tokens)
        return
    recorder.heatmaps(step, [look.log_weights() for look in looks], kind="weights", tokens=tokens)
    if step == last:
        say("no biases: this encoding adds nothing to the logits; the heatmaps are of the attention weights")


def rows_of(points: Sequence[Point], config: ResolvedConfig, text: Corpus | HeldOut) -> list[dict[str, Any]]:
    """The rows of a curve as they are recorded, with what it was measured on."""
    terms = {
        "corpus_sha256": text.sha256,
        "tokenizer_sha256": text.tokenizer.sha256,
        "precision": config.precision,
        "seed": config.seed,
    }
    return [{**point.row(), **terms} for point in points]


def record_curve(
    recorder: Recorder, config: ResolvedConfig, points: Sequence[Point], corpus: Corpus, step: int
) -> Path | None:
    """Record the curve as it is after so many steps, with what it was measured on; its picture, if there is a curve."""
    if not points:
        return None
    return recorder.curve(
        rows_of(points, config, corpus),
        train_length=config.seq_len,
        encoding=config.encoding,
        step=step,
        blocks={point.length: point.blocks._asdict() for point in points if point.blocks is not None},
        scores=scores([point.row() for point in points], config.seq_len),
    )
