"""`python -m extrapo`, and what the command `extrapo` starts: nothing is loaded before Ctrl-C is heard."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType
from typing import TextIO

#: The files of Python's own import system.
LOADING = "<frozen importlib"


def interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: while a library loads, which may swallow an exception or make another of it, leave at once."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(LOADING):
            os.write(2, b"extrapo: error: interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def nowhere() -> TextIO:
    """A stream that nobody reads, open to the end."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def main() -> None:
    """Run the command that was typed, and exit."""
    # A closed stream is one that nobody reads.
    sys.stdout, sys.stderr = sys.stdout or nowhere(), sys.stderr or nowhere()
    for stream in (sys.stdout, sys.stderr):
        # A locale that lacks a character is no reason to lose the line that it stands in.
        if isinstance(stream, TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="replace")
    try:
        os.getcwd()
    except OSError as fault:
        # Nothing that is named from there could be found, libraries of PyTorch's neither.
        print(
            f"extrapo: error: the folder that this was started in is gone ({fault.strerror}); cd to another",
            file=sys.stderr,
        )
        sys.exit(2)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    from extrapo.help_pages import kept, shown

    words = sys.argv[1:]
    if shown(words):
        sys.exit(0)
    from extrapo.silence import watched

    end = watched(" ".join(["extrapo", *words[:1]]))
    try:
        from extrapo.cli import main as command
        from extrapo.interruption import undropped

        with undropped(), kept(words):
            command()
    finally:
        end()


if __name__ == "__main__":
    main()
