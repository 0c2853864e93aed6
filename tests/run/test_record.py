"""How a run ends is recorded, whatever ends it."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from small_runs import change

from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.evaluation.look import LayerLook
from extrapo.location import Location
from extrapo.run import fit as fitting
from extrapo.run.checkpoints import LastCheckpoint
from extrapo.run.record import heatmaps, record_curve, recorded_status, terminable
from extrapo.run.resume import resume
from extrapo.tracking import Recorder, RunStore, recorded_run, runs


@pytest.mark.parametrize(
    ("cause", "caught", "interrupted", "status"),
    [
        (None, None, False, "FINISHED"),
        (None, None, True, "KILLED"),
        (RuntimeError("out of luck"), RuntimeError, False, "FAILED"),
        (KeyboardInterrupt(), KeyboardInterrupt, False, "KILLED"),
        # Lightning makes this of a KeyboardInterrupt.
        (SystemExit(1), KeyboardInterrupt, False, "KILLED"),
    ],
)
def test_a_run_has_the_status_of_its_end(
    store: RunStore, cause: BaseException | None, caught: type[BaseException] | None, interrupted: bool, status: str
) -> None:
    recorder = Recorder.start(store, "ends", config={"encoding": "nope"})
    last = LastCheckpoint(recorder.folder, every=1)
    last.interrupted = interrupted

    def end() -> None:
        with recorded_status(recorder, last, print):
            if cause is not None:
                raise cause

    if caught is None:
        end()
    else:
        with pytest.raises(caught):
            end()
    assert recorded_run(store, recorder.run_id).status == status


@pytest.mark.parametrize(("cause", "status"), [(KeyboardInterrupt(), "KILLED"), (UserError("taken"), "RUNNING")])
def test_a_run_that_never_got_going(
    store: RunStore, cause: BaseException, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped on its way to training it is over; where another process is at work on it, that one says how it ends."""
    recorder = Recorder.start(store, "begins", config={"encoding": "nope"})

    def end(self: Recorder, say: object) -> Recorder:
        raise cause

    monkeypatch.setattr(Recorder, "patient", end)
    with pytest.raises(type(cause)), recorded_status(recorder, LastCheckpoint(recorder.folder, every=1), print):
        pytest.fail("it was not to begin")
    assert recorded_run(store, recorder.run_id).status == status


@pytest.mark.usefixtures("attended")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_between_its_record_and_its_training(
    number: int, small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "make_callbacks", lambda *_: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(change(small, root=str(tmp_path)))
    assert [run.status for run in runs(tmp_path)] == ["KILLED"]


@pytest.mark.parametrize("times", [1, 2])
def test_stopped_while_mlflow_creates_the_run(
    times: int, small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the run has its status. Twice, say since the store does not answer: at once."""
    create, before = MlflowClient.create_run, signal.getsignal(signal.SIGINT)

    def created(self: MlflowClient, *args: object, **options: object) -> object:
        run = create(self, *args, **options)  # type: ignore[arg-type]
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return run

    monkeypatch.setattr(MlflowClient, "create_run", created)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(change(small, root=str(tmp_path)))
    (run,) = runs(tmp_path)
    assert run.status == ("KILLED" if times == 1 else "RUNNING")
    assert signal.getsignal(signal.SIGINT) is before
    if times == 2:
        return
    monkeypatch.undo()
    assert resume(run.run_id, Location(tmp_path)).interrupted_at is None
    assert {"config.yaml", "tokenizer.json"} <= {file.path for file in run.store.client.list_artifacts(run.run_id)}


def test_stopped_while_the_rest_is_delivered(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run is delivered last: it is waited for, and the signal is obeyed then."""
    recorder, finish = Recorder.start(store, "delivers", config={"encoding": "nope"}), Recorder.finish

    def slowly(self: Recorder, status: str) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(self, status)

    monkeypatch.setattr(Recorder, "finish", slowly)
    last = LastCheckpoint(recorder.folder, every=1)
    with pytest.raises(KeyboardInterrupt), terminable(), recorded_status(recorder, last, print):
        pass
    assert recorded_run(store, recorder.run_id).status == "FINISHED"


def test_without_a_curve_there_is_no_picture(store: RunStore, small: RunConfig) -> None:
    recorder = Recorder.start(store, "no curve", config={"encoding": "nope"})
    assert record_curve(recorder, small.resolved(), [], "", 0) is None


def test_where_nothing_is_added_the_weights_are_drawn_and_it_is_said_once(store: RunStore, small: RunConfig) -> None:
    recorder = Recorder.start(store, "no bias", config={"encoding": "nope"})
    lines: list[str] = []
    (callback,) = heatmaps(change(small, heatmaps=2).resolved(), np.zeros(64, dtype=np.int64), recorder, lines.append)
    for step in (0, 6):
        nothing, weights = np.zeros((2, 4, 4), dtype=np.float32), np.full((2, 4, 4), 0.1, dtype=np.float32)
        callback.draw(step, [LayerLook(nothing, weights)])
    assert lines == ["no biases: this encoding adds nothing to the logits; the heatmaps are of the attention weights"]
    assert recorded_run(store, recorder.run_id).heatmaps() == {}
    drawn = {file.path for file in store.client.list_artifacts(recorder.run_id, "heatmaps/step-000006")}
    assert drawn == {"heatmaps/step-000006/layer-00.png"}
    path = store.client.download_artifacts(recorder.run_id, "weights/step-000006.npz")
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["tokens"], np.zeros(32))
        np.testing.assert_allclose(arrays["layer 00"], -1, rtol=1e-3)
    never = small.model_copy(update={"heatmaps": 0}).resolved()
    assert heatmaps(never, np.zeros(64, dtype=np.int64), recorder, lines.append) == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    root: Path = tmp_path_factory.mktemp("record")
    return RunStore.open(Location(root))
