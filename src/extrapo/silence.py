"""A command that says nothing for some seconds says that it still runs: nobody is to wonder whether it hangs.

One watch for all commands, from their first moment on. It hears what is written to stdout and stderr, and speaks on
stderr alone. Tests call commands without it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, main_thread
from typing import Any, TextIO

#: A command that tells of what it does tells something every so many seconds.
OFTEN = 4.0
#: Seconds of silence after which the watch speaks for it.
SILENT = 4.5
#: Seconds after which a watch that has ended is over, at most.
LOOK = 0.25
#: Of work that takes longer than so many seconds, a word every so many is enough where nobody watches.
LONG, SELDOM = 300.0, 30.0
#: The files of Python's own import system.
LOADING = "<frozen importlib"


def pause(passed: float) -> float:
    """Seconds between two lines that tell of work, where nobody watches; it has taken `passed` seconds by now."""
    return OFTEN if passed < LONG else SELDOM


class Heard:
    """A stream, and when something was last written to it.

    Args:
        stream: where it all goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.at = time.monotonic()

    def write(self, text: str) -> int:
        """To the stream."""
        self.at = time.monotonic()
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Watch:
    """Says on stderr that a command still runs, as often as it is silent for too long, until `end` is called.

    Args:
        command: its name.
        streams: what is heard.
        silent: seconds of silence after which something is said.
    """

    def __init__(self, command: str, streams: tuple[Heard, Heard], silent: float = SILENT) -> None:
        self.command, self.streams, self.silent = command, streams, silent
        self._began = time.monotonic()
        # No Event: a signal that raises while one is being set may leave its lock held, and who sets it again waits.
        self._over = False
        self._thread = Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """From here on."""
        self._thread.start()

    def end(self) -> None:
        """Nothing is said any more: the command is through, or waits for what may never come."""
        self._over = True

    def patience(self) -> float:
        """Seconds of silence that are borne by now."""
        seldom = time.monotonic() - self._began > LONG and not self.streams[1].isatty()
        return max(self.silent, SELDOM) if seldom else self.silent

    def _watch(self) -> None:
        while not self._over:
            left = max(stream.at for stream in self.streams) + self.patience() - time.monotonic()
            if left > 0:
                time.sleep(min(left, LOOK))
                continue
            what = ": loading libraries" if loading() else ""
            # Who reads stderr may have left; a bar that is drawn on stdout is not hurt by a line on stderr.
            with suppress(OSError, ValueError):
                self.streams[1].write(f"{self.command}{what}: {time.monotonic() - self._began:.0f} s so far ...\n")
                self.streams[1].flush()
            self.streams[1].at = time.monotonic()


_watch: Watch | None = None


def loading() -> bool:
    """Whether the main thread is within an import."""
    frame = sys._current_frames().get(main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.startswith(LOADING):
            return True
        frame = frame.f_back
    return False


def watched(command: str) -> Callable[[], None]:
    """Watch the command that begins here; what ends it. Of several ranks of a run the first one speaks."""
    global _watch
    if os.environ.get("LOCAL_RANK", "0") != "0" or _watch is not None:
        return ended
    out, err = Heard(sys.stdout), Heard(sys.stderr)
    sys.stdout, sys.stderr = out, err
    _watch = Watch(command, (out, err))
    _watch.start()
    return ended


def ended() -> None:
    """Nothing is said from here on: what follows is a wait that the command has told of."""
    if _watch is not None:
        _watch.end()
