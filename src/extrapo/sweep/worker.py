"""One trial, one process: the job of `extrapo fit` with a cell's settings. Its first rank alone talks to Optuna."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeAlias

import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from extrapo.errors import MachineError, UserError, refusal
from extrapo.run.divergence import Diverged
from extrapo.run.fit import Result, fit
from extrapo.run.pruning import PruningCallback
from extrapo.run.ranks import RankLost
from extrapo.run.resume import resume
from extrapo.sweep import process, rank
from extrapo.sweep.objective import Outcome
from extrapo.sweep.queue import CELL, ERROR, PROCESS, Queue
from extrapo.sweep.slots import Slot
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import HEARTBEAT, reopen_storage
from extrapo.sweep.study import load_study
from extrapo.sweep.task import Task
from extrapo.tracking import Recorder, RunStore, sweeps
from extrapo.tracking.entries import Tag

End: TypeAlias = Literal["complete", "pruned", "failed", "returned", "lost", "machine"]
#: What a worker tells its supervisor: the step it is at, or how it ended and why.
Send: TypeAlias = Callable[[tuple[str, Any]], None]


def worker_main(task: Task, connection: Connection) -> None:
    """The life of a worker process, forked from a parent that has only imported things."""
    os.setsid()
    _detach(task)
    send = _sender(connection)
    end, why = work(task, send)
    send((end, why))


def _detach(task: Task) -> None:
    """An own session and an own log; what further ranks start as."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    # The ranks of a trial are Lightning's to start, whoever started the sweep.
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in (
            "RANK",
            "LOCAL_RANK",
            "WORLD_SIZE",
            "NODE_RANK",
            "MASTER_PORT",
        ):
            del os.environ[name]
    os.environ[process.MARK] = task.mark
    # What Lightning starts again for further ranks.
    sys.modules["__main__"] = rank
    sys.argv = [rank.__name__]


def keep_within(slot: Slot, devices: int | str) -> int:
    """Keep this process, and the ranks that it will start, within their slot; how many ranks there are."""
    ranks = devices if isinstance(devices, int) else max(1, len(slot.gpus))
    os.environ.update(slot.environment(ranks))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return ranks


def _sender(connection: Connection) -> Send:
    def send(message: tuple[str, Any]) -> None:
        # The supervisor may be gone; its trial goes on.
        with suppress(OSError):
            connection.send(message)

    return send


def work(task: Task, send: Send) -> tuple[End, str]:
    """Run the claimed trial to its end, whatever that is, and tell the study."""
    spec = SweepSpec(**task.spec)
    storage = reopen_storage(task.storage, task.location.root, print)
    study = storage.patiently(lambda: load_study(spec, storage, task.number))
    queue = Queue(spec, study, storage, task.retries)
    frozen = queue.trial(task.number)
    try:
        queue.set_attributes(frozen, **{PROCESS: process.identity()})
    except UpdateFinishedTrialError:
        return "lost", ""
    with _heartbeat(queue, frozen):
        try:
            return _train(task, queue, frozen, send)
        except (UserError, Diverged) as cause:
            queue.fail(frozen, str(cause))
            return "failed", str(cause)
        except KeyboardInterrupt:
            queue.requeue(frozen)
            return "returned", ""
        except Exception as cause:
            traceback.print_exc()
            reason = str(cause) if isinstance(cause, MachineError) else refusal(cause)
            if reason is not None and not isinstance(cause, RankLost):
                queue.requeue(frozen)
                return "machine", reason
            text = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
            if json.loads(os.environ.get(rank.RANKS) or "{}").get("ranks", 1) > 1:
                # One rank's failure may be another's death: only trying again tells.
                queue.requeue(frozen, stopped=False)
                return "returned", text
            queue.fail(frozen, text)
            return "failed", text


def _train(task: Task, queue: Queue, frozen: FrozenTrial, send: Send) -> tuple[End, str]:
    spec, cell = queue.spec, int(frozen.user_attrs[CELL])
    trial, chosen = queue.suggest(frozen)
    config = spec.settings(chosen).model_copy(
        update={
            "root": str(task.location.root),
            "tracking_uri": task.location.tracking_uri,
            "experiment": spec.name,
        }
    )
    try:
        store = RunStore.open(task.location, spec.name, patience=100.0)
    except UserError as cause:
        # It was there when the sweep began: the cell can do nothing for it, and waits.
        raise MachineError(str(cause)) from cause
    run_id = sweeps.run_of(store, spec.name, cell)
    if run_id is not None:
        Recorder(store, run_id).later(Tag(sweeps.TRIAL, str(task.number)), print)
    ranks = keep_within(task.slot, config.devices)
    queue.set_attributes(frozen, threads=torch.get_num_threads())
    os.environ[rank.RANKS] = json.dumps({"config": config.model_dump(mode="json"), "resume": run_id, "ranks": ranks})

    def should_prune(step: int, loss: float) -> bool:
        try:
            queue.set_attributes(frozen, step=step)
            if len(spec.objective) > 1:
                return False
            # A pruner looks for what the study looks for: where large is good, so must the report be.
            value = -loss if spec.objectives[0].direction == "maximize" else loss
            queue.storage.patiently(lambda: trial.report(value, step))
            return queue.storage.patiently(trial.should_prune)
        except UpdateFinishedTrialError:
            end_at_once()
            raise

    pruning = PruningCallback(should_prune, lambda step: send(("step", (step, config.steps))))
    send(("step", (0, config.steps)))
    if run_id is None:
        tags = sweeps.tags(spec.name, task.number, cell)
        result = fit(config, task.reporter(), tags=tags, callbacks=[pruning])
    else:
        result = resume(run_id, task.location, task.reporter(), callbacks=[pruning])
    queue.set_attributes(frozen, run_id=result.run_id)
    if result.interrupted_at is not None:
        queue.requeue(frozen)
        return "returned", ""
    if pruning.stopped_at is not None:
        Recorder(store, result.run_id).later(Tag("extrapo.pruned_at", str(pruning.stopped_at)), print)
        return ("pruned", "") if queue.prune(frozen) else ("lost", "")
    return _report(queue, frozen, result)


def _report(queue: Queue, frozen: FrozenTrial, result: Result) -> tuple[End, str]:
    rows = [point.row() for point in result.points]
    outcome = Outcome(rows, result.config.seq_len, result.tokens_per_second)
    values = [asked.value(outcome) for asked in queue.spec.objectives]
    kept = ("length", "nll", "ppl", "bits_per_byte", "low", "high", "tokens", "protocol", "description")
    curve = [{key: row[key] for key in kept} for row in rows]
    queue.set_attributes(frozen, curve=curve, tokens_per_second=result.tokens_per_second)
    if not queue.complete(frozen, values):
        return "lost", ""
    ended = queue.trial(frozen.number).user_attrs
    return ("failed", ended[ERROR]) if ERROR in ended else ("complete", "")


@contextmanager
def _heartbeat(queue: Queue, frozen: FrozenTrial) -> Iterator[None]:
    """Signs of life while the block runs. A trial that was given to somebody else ends at once: one is enough."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            # A trial that has just ended is not ours either: then the block is about to be left.
            if not queue.heartbeat(frozen) and not over.wait(HEARTBEAT):
                end_at_once()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def end_at_once() -> None:
    """Kill all ranks of this trial, this one included."""
    os.killpg(0, signal.SIGKILL)
