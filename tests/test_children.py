"""A folder in which others have put modules: what a command starts does not load them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extrapo.children import SAFE, inheriting


def test_what_children_inherit_is_gone_behind_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "7")
    before = dict(os.environ)
    with inheriting(THREADS="1"):
        assert dict(os.environ) == {**before, **SAFE, "THREADS": "1"}
    assert dict(os.environ) == before


#: A sweep's processes, those that measure memory, and MLflow's server, each with what Python loads first for it.
STARTED = {
    "sweep": (
        "multiprocessing",
        "from extrapo.sweep.launch import fork_context; from extrapo.sweep.process import machine\n"
        "process = fork_context().Process(target=machine); process.start(); process.join()\n"
        "assert process.exitcode == 0",
    ),
    "memory": (
        "signal",
        "from extrapo.bench.memory import Children, highest; from concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1, mp_context=Children().context) as pool:\n"
        "    assert pool.submit(highest).result()",
    ),
    "server": (
        "mlflow",
        "from pathlib import Path\nfrom extrapo.location import Location\n"
        "from extrapo.tracking import RunStore, server\n"
        "location = Location(Path(sys.argv[1]))\n"
        "RunStore.open(location)\n"
        "with server.serve(location) as running:\n"
        "    assert running.url",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("started", STARTED)
def test_modules_in_the_folder_of_a_command_are_not_run(started: str, tmp_path: Path) -> None:
    module, program = STARTED[started]
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / f"{module}.py").write_text("open('ran', 'w').close(); raise SystemExit(1)")
    script = tmp_path / "script.py"
    script.write_text("import sys\n" + "if __name__ == '__main__':\n    " + program.replace("\n", "\n    "))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "runs")], cwd=shared, capture_output=True, text=True, timeout=300
    )
    assert [path.name for path in shared.iterdir()] == [f"{module}.py"]
    assert done.returncode == 0, done.stderr
