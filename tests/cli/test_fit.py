"""extrapo fit as people start it: real processes, signals, ranks, a full disk."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from disks import small_disk
from extrapo.cli import run as extrapo
from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.terminal import Output
from extrapo.tracking import RecordedRun, runs
from extrapo.training import load_checkpoint
from processes import finish, start, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def flags(config: RunConfig, **changes: object) -> list[str]:
    values = {**config.model_dump(exclude_unset=True), **changes}
    return [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def losses(run: RecordedRun) -> dict[int, float]:
    return {p.step: p.value for p in run.store.client.get_metric_history(run.run_id, "train/loss")}


def test_json_is_alone_on_stdout(small: RunConfig, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = finish(start("fit", *flags(small), "--json"))
    assert code == 0, err
    document = json.loads(out)
    assert set(document) == {
        *(
            "run_id",
            "encoding",
            "layers",
            "train_length",
            "steps",
            "tokens_per_second",
            "curve",
            "checkpoint",
            "impl",
            "skipped_steps",
        )
    }
    assert "ppl/ppl(T)" in err
    assert f"attention: {document['impl']} " in err
    assert extrapo(["evaluate", document["run_id"][:8], "--root", small.root, "--json"]) == 0
    again = json.loads(capfd.readouterr().out)["curve"]
    assert [row["length"] for row in again] == [row["length"] for row in document["curve"]]


@pytest.mark.chaos  # the table of kills has one of a fit
def test_killed_and_resumed_is_the_same_as_never_stopped(small: RunConfig, tmp_path: Path) -> None:
    changes = {"steps": 100, "val_every": 10, "heatmaps": 0, "lengths": 32}
    killed = start("fit", *flags(small, **changes))
    wait_for(lambda: any(Path(small.root).glob("*/last.ckpt")), killed)
    killed.kill()
    killed.communicate()
    values = {**small.model_dump(exclude_unset=True), **changes, "lengths": [32], "root": str(tmp_path / "whole")}
    fit(RunConfig(**values), Output())
    (run,) = runs(small.root)
    assert run.status == "RUNNING"
    code, _, err = finish(start("fit", "--resume", "last", "--root", small.root))
    assert code == 0, err
    (run,), (reference,) = runs(small.root), runs(tmp_path / "whole")
    assert run.status == "FINISHED"
    assert losses(run) == losses(reference)
    assert run.curve == reference.curve


@pytest.mark.chaos  # the table of kills has one that is interrupted
def test_ctrl_c_saves_and_says_how_to_go_on(small: RunConfig) -> None:
    process = start("fit", *flags(small, steps=100_000, val_every=50_000, heatmaps=0))
    wait_for(lambda: Path(small.root, "mlflow.db").exists() and bool(runs(small.root)), process)
    wait_for(lambda: bool(losses(runs(small.root)[0])), process)
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)
    assert code == 130
    (run,) = runs(small.root)
    assert run.status == "KILLED"
    assert out.count("stopping: this step is finished and saved (a second signal stops at once)") == 1
    assert f"extrapo fit --resume {run.run_id[:8]} --root {small.root}" in out
    load_checkpoint(Path(small.root) / run.run_id / "last.ckpt")


def test_two_processes_train_one_model(small: RunConfig, tmp_path: Path) -> None:
    together = flags(small, devices=2, strategy="ddp", heatmaps=2, log_every=3)
    code, out, err = finish(start("fit", *together, "--json"))
    assert code == 0, err
    values = {**small.model_dump(exclude_unset=True), "micro_batch": 2, "root": str(tmp_path / "alone")}
    alone = fit(RunConfig(**values), Output()).summary()
    assert len(runs(small.root)) == 1
    for one, other in zip(json.loads(out)["curve"], alone["curve"], strict=True):
        assert one["tokens"] == other["tokens"] == 1024
        assert one["nll"] == pytest.approx(other["nll"], rel=1e-4)
    (run,), (reference,) = runs(small.root), runs(tmp_path / "alone")
    assert run.status == "FINISHED"
    assert list(run.heatmaps()) == [0, 6]
    # Of the steps that are recorded, the loss of the whole batch.
    assert set(losses(run)) == {1, 3, 6}
    assert all(loss == pytest.approx(losses(reference)[step], rel=1e-4) for step, loss in losses(run).items())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for the database and for little more."""
    yield from small_disk(tmp_path / "disk", megabytes=8)


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(small: RunConfig, full_disk: Path) -> None:
    # 64 wide: a checkpoint of about 1.2 MB. The second, best.ckpt beside last.ckpt, still fits; a third does not.
    grown = flags(small, root=full_disk, dim=64, steps=400, val_every=5, heatmaps=0, log_every=400)
    process = start("fit", *grown)
    wait_for(lambda: any(full_disk.glob("*/last.ckpt")), process)
    with suppress(OSError), (full_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)
    code, _, err = finish(process)
    assert code == 1, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("extrapo: error: ")
    assert "Traceback" not in err
    load_checkpoint(next(full_disk.glob("*/last.ckpt")))
    assert not list(full_disk.glob("*/.*partial"))
