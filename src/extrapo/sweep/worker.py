"""One trial, one process: the job of `extrapo fit` with a cell's settings. Its first rank alone talks to Optuna."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from extrapo.config import RunConfig
from extrapo.errors import MachineError, UserError, refusal
from extrapo.location import Location
from extrapo.run.fit import Result, fit
from extrapo.run.pruning import PruningCallback
from extrapo.run.resume import resume
from extrapo.sweep import place
from extrapo.sweep.objective import Outcome
from extrapo.sweep.plan import Plan
from extrapo.sweep.queue import Queue
from extrapo.sweep.slots import Slot
from extrapo.sweep.storage import HEARTBEAT, reopen_storage
from extrapo.sweep.study import load
from extrapo.sweep.task import Task
from extrapo.sweep.trials import CELL
from extrapo.terminal import Output
from extrapo.tracking import RunStore, sweeps

#: Where the further ranks of a trial find what they train: they never choose anything.
RANKS = "EXTRAPO_TRIAL"

End: TypeAlias = Literal["complete", "pruned", "failed", "returned", "lost", "machine"]
#: What a worker tells its supervisor: the step it is at, or how it ended and why.
Send: TypeAlias = Callable[[tuple[str, Any]], None]


def live(task: Task, wire: Connection) -> None:
    """The life of a worker process, forked from a parent that has only imported things."""
    os.setsid()
    _settle(task)
    send = _sender(wire)
    end, why = work(task, send)
    send((end, why))


def _settle(task: Task) -> None:
    """Own session and own log; further ranks start as `extrapo worker`."""
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
    os.environ[place.MARK] = task.mark
    sys.modules["__main__"] = importlib.import_module("extrapo.__main__")
    sys.argv = ["extrapo", "worker"]


def share(slot: Slot, devices: int | str) -> int:
    """Keep this process, and the ranks that it will start, within their slot; how many ranks there are."""
    ranks = devices if isinstance(devices, int) else max(1, len(slot.gpus))
    os.environ.update(slot.environment(ranks))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return ranks


def _sender(wire: Connection) -> Send:
    def send(message: tuple[str, Any]) -> None:
        # The supervisor may be gone; its trial goes on.
        with suppress(OSError):
            wire.send(message)

    return send


def work(task: Task, send: Send) -> tuple[End, str]:
    """Run the claimed trial to its end, whatever that is, and tell the study."""
    plan = Plan(**task.plan)
    storage = reopen_storage(task.storage, Path(task.root), print)
    study = storage.patiently(lambda: load(plan, storage, task.number))
    queue = Queue(plan, study, storage, task.retries)
    frozen = queue.trial(task.number)
    try:
        queue.note(frozen, place=place.place())
    except UpdateFinishedTrialError:
        return "lost", ""
    with _heartbeat(queue, frozen):
        try:
            return _train(task, queue, frozen, send)
        except UserError as cause:
            queue.fail(frozen, str(cause))
            return "failed", str(cause)
        except KeyboardInterrupt:
            queue.give_back(frozen)
            return "returned", ""
        except Exception as cause:
            traceback.print_exc()
            reason = str(cause) if isinstance(cause, MachineError) else refusal(cause)
            if reason is not None:
                queue.give_back(frozen)
                return "machine", reason
            text = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
            if json.loads(os.environ.get(RANKS) or "{}").get("ranks", 1) > 1:
                # One rank's failure may be another's death: only trying again tells.
                queue.give_back(frozen, stopped=False)
                return "returned", text
            queue.fail(frozen, text)
            return "failed", text


def _train(task: Task, queue: Queue, frozen: FrozenTrial, send: Send) -> tuple[End, str]:
    plan, cell = queue.plan, int(frozen.user_attrs[CELL])
    trial, chosen = queue.suggest(frozen)
    config = plan.settings(chosen).model_copy(
        update={"root": task.root, "tracking_uri": task.tracking_uri, "experiment": plan.name}
    )
    store = RunStore.open(Location(Path(task.root), task.tracking_uri), plan.name)
    run_id = sweeps.run_of(store, plan.name, cell)
    if run_id is not None:
        store.client.set_tag(run_id, sweeps.TRIAL, task.number)
    ranks = share(task.slot, config.devices)
    queue.note(frozen, threads=torch.get_num_threads())
    os.environ[RANKS] = json.dumps({"config": config.model_dump(mode="json"), "resume": run_id, "ranks": ranks})

    def ask(step: int, loss: float) -> bool:
        try:
            queue.note(frozen, step=step)
            if len(plan.objective) > 1:
                return False
            # A pruner looks for what the study looks for: where large is good, so must the report be.
            value = -loss if plan.objectives[0].direction == "maximize" else loss
            queue.storage.patiently(lambda: trial.report(value, step))
            return queue.storage.patiently(trial.should_prune)
        except UpdateFinishedTrialError:
            end_at_once()
            raise

    pruning = PruningCallback(ask, lambda step: send(("step", (step, config.steps))))
    send(("step", (0, config.steps)))
    if run_id is None:
        tags = sweeps.tags(plan.name, task.number, cell)
        result = fit(config, Output(), tags=tags, callbacks=[pruning])
    else:
        result = resume(run_id, Location.of(config), Output(), callbacks=[pruning])
    queue.note(frozen, run_id=result.run_id)
    if result.interrupted_at is not None:
        queue.give_back(frozen)
        return "returned", ""
    if pruning.stopped_at is not None:
        store.client.set_tag(result.run_id, "extrapo.pruned_at", pruning.stopped_at)
        return ("pruned", "") if queue.prune(frozen) else ("lost", "")
    return _report(queue, frozen, result)


def _report(queue: Queue, frozen: FrozenTrial, result: Result) -> tuple[End, str]:
    rows = [point.row() for point in result.points]
    outcome = Outcome(rows, result.config.seq_len, result.tokens_per_second)
    values = [asked.value(outcome) for asked in queue.plan.objectives]
    curve = [{key: row[key] for key in ("length", "nll", "ppl", "tokens", "protocol")} for row in rows]
    queue.note(frozen, curve=curve, tokens_per_second=result.tokens_per_second)
    if not queue.complete(frozen, values):
        return "lost", ""
    ended = queue.trial(frozen.number).user_attrs
    return ("failed", ended["error"]) if "error" in ended else ("complete", "")


@contextmanager
def _heartbeat(queue: Queue, frozen: FrozenTrial) -> Iterator[None]:
    """Signs of life while the block runs. A trial that was given to somebody else ends at once: one is enough."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            # A trial that has just ended is not ours either: then the block is about to be left.
            if not queue.is_mine(frozen) and not over.wait(HEARTBEAT):
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


def follow() -> None:
    """A further rank: the same model, the same steps; it stops when the first rank is told to.

    Raises:
        UserError: not started by a trial.
    """
    given = os.environ.get(RANKS)
    if given is None:
        raise UserError("this is how a sweep starts the ranks of a trial; start the sweep itself")
    task = json.loads(given)
    config = RunConfig(**task["config"])
    if task["resume"] is None:
        fit(config, Output(), callbacks=[PruningCallback()])
    else:
        resume(task["resume"], Location.of(config), Output(), callbacks=[PruningCallback()])
