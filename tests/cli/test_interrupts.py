"""Readers that leave, and Ctrl-C at any moment of a start."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from extrapo.config import RunConfig
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, runs
from processes import EXTRAPO, finish, start


def configured(small: RunConfig) -> str:
    """The file of a run's settings."""
    file = Path(small.root).with_name("run.yaml")
    file.write_text(yaml.safe_dump(small.model_dump(mode="json", exclude_unset=True)))
    return str(file)


@pytest.mark.slow
def test_a_reader_that_leaves_ends_no_training(small: RunConfig) -> None:
    """`extrapo fit ... | head -1`."""
    process = start("fit", "--config", configured(small))
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    code, _, err = finish(process)
    assert code == 0, err
    assert "nobody reads the output any more; the work goes on" in err
    assert "Traceback" not in err
    (run,) = runs(small.root)
    assert run.status == "FINISHED"
    assert run.curve


@pytest.mark.chaos
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", ">&- 2>&-"])
def test_without_anywhere_to_write(small: RunConfig, redirection: str) -> None:
    words = " ".join(f"'{word}'" for word in (*EXTRAPO, "fit", "--config", configured(small)))
    done = subprocess.run(["sh", "-c", f"{words} {redirection}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), done.stderr
    (run,) = runs(small.root)
    assert run.status in ("FINISHED", "FAILED")


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.3, 1.7, 2.5, 4.0])
def test_ctrl_c_while_it_starts(small: RunConfig, seconds: float) -> None:
    """While libraries load, while the store is made, before the first step: a line, 130, and a root that serves."""
    process = subprocess.Popen(
        [*EXTRAPO, "fit", "--config", configured(small)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert "Traceback" not in err
    assert code in (0, 130), err
    assert code == 0 or "interrupted" in out + err
    if (Path(small.root) / "mlflow.db").exists():
        assert all(run.status in ("KILLED", "FINISHED") for run in runs(small.root))
    code, _, err = finish(start("fit", "--config", configured(small)))
    assert code == 0, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.chaos)]
)
def test_pages_that_are_ended(small: RunConfig, number: signal.Signals, expected: int) -> None:
    store = RunStore.open(Location.of(small))
    Recorder.start(store, "served", config=small.model_dump(mode="json")).finish("FINISHED")
    process = start("ui", "--root", str(small.root))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Ctrl-C ends it"):
            break
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == expected, err
    assert "ended" in out
    assert "Traceback" not in err
    # While it starts, too.
    process = start("ui", "--root", str(small.root))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("starting MLflow")
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == expected, err
    assert "Traceback" not in err
