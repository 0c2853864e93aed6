"""The command line in processes that need not load anything: forked off one that has loaded it all.

Run as a script it serves: a line of JSON with arguments, environment and files for stdout and stderr comes in, the
number of the forked process goes out, then its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: What commands load when they run.
LOADED = (
    *("extrapo.cli", "extrapo.terminal", "extrapo.terminal.progress", "extrapo.run.fit", "extrapo.run.resume"),
    *("extrapo.run.evaluate", "extrapo.run.probe", "extrapo.run.report", "extrapo.data.preparation"),
    *("extrapo.tracking.logger", "extrapo.tracking.outbox", "extrapo.figures", "extrapo.report", "matplotlib"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store"),
)


class Forks:
    """A server of processes.

    Args:
        folder: where what they say lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None, out: str | None = None
    ) -> Forked:
        """Start a command, whose stdout may go to another place."""
        self.number += 1
        files = [out or str(self.folder / f"{self.number}.out"), str(self.folder / f"{self.number}.err")]
        assert self.process.stdin is not None
        print(json.dumps([list(arguments), dict(environment or {}), *files]), file=self.process.stdin, flush=True)
        return Forked(self, int(self._line()), *map(Path, files))

    def close(self) -> None:
        """End the server."""
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server of forks has died"
        return line


class Forked:
    """A process; one at a time."""

    def __init__(self, forks: Forks, pid: int, out: Path, err: Path) -> None:
        self.forks, self.pid, self.out, self.err = forks, pid, out, err

    def send(self, number: int) -> None:
        """Send a signal; to one that has ended none."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def wait(self) -> tuple[int, str]:
        """The exit code, negative after a signal, and what was said on stderr."""
        code = int(self.forks._line())
        return code, self.err.read_text()


def serve() -> None:
    """Fork as told."""
    from importlib import import_module

    from extrapo.tracking.store import quiet

    quiet()
    for name in LOADED:
        import_module(name)
    for line in sys.stdin:
        arguments, environment, out, err = json.loads(line)
        pid = os.fork()
        if not pid:
            become(arguments, environment, out, err)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(arguments: Any, environment: Any, out: str, err: str) -> None:
    """Run the command in this process, and end it."""
    from extrapo.cli import run

    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 99
    try:
        code = run(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
