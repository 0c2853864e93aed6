"""Help as it was printed last: to put a page together takes several times what it takes to read one.

A page is kept in a folder of this user's, with a fingerprint of all that it depends on: the package's own files, the
libraries that make the page, the width and the kind of the terminal. Where anything else is asked for than help, or
nothing can be kept, all goes its usual way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from extrapo.kept import keep, kept_text, state_of_package

FLAGS = ("--help", "-h", "--help-all")
#: What makes a page.
LIBRARIES = ("cyclopts", "docstring_parser", "pydantic", "rich")
#: What rich asks the environment before it draws.
ASKED = ("COLUMNS", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class Copied:
    """A stream, and what was written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.text = ""
        self.is_whole = True

    def write(self, text: str) -> int:
        """To both."""
        try:
            count = self.stream.write(text)
        except OSError:
            self.is_whole = False
            raise
        self.text += text
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def shown(words: Sequence[str]) -> bool:
    """Print the page that these words of a command line ask for, if it is kept and nothing has changed.

    Args:
        words: behind the program's name.
    """
    if not is_help(words):
        return False
    try:
        page = kept_text(file_name(words), fingerprint(words))
        if page is None:
            return False
        print(page, end="", flush=True)
    except BrokenPipeError:
        # The reader has gone: the interpreter is not to complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def kept(words: Sequence[str]) -> Iterator[None]:
    """Keep the page that is printed in the block, where these words ask for one; the block ends with SystemExit."""
    if not is_help(words):
        yield
        return
    mark, copied = fingerprint(words), Copied(sys.stdout)
    try:
        with redirect_stdout(copied):
            yield
    except SystemExit as end:
        if not end.code and copied.is_whole:
            keep(file_name(words), mark, copied.text)
        raise


def is_help(words: Sequence[str]) -> bool:
    """Whether words of a command line are a command and a flag that asks for help, and no more."""
    return bool(words) and words[-1] in FLAGS and len(words) <= 3 and all(word.isalpha() for word in words[:-1])


def file_name(words: Sequence[str]) -> str:
    """Of the file of a page."""
    return f"help/{'-'.join(['extrapo', *words[:-1], words[-1].strip('-')])}.txt"


def fingerprint(words: Sequence[str]) -> str:
    """Of all that a page depends on."""
    libraries = [Path(found.origin) for found in map(find_spec, LIBRARIES) if found is not None and found.origin]
    parts: list[object] = [state_of_package(), *words, *map(os.environ.get, ASKED), sys.stdout.encoding]
    for file in libraries:
        state = file.stat()
        parts += [file, state.st_mtime_ns, state.st_size]
    for stream in range(3):
        parts.append(os.isatty(stream))
        with suppress(OSError):
            parts.append(os.get_terminal_size(stream).columns)
    return sha256(repr(parts).encode()).hexdigest()
