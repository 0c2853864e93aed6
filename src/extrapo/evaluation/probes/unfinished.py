"""What a task had found when it was stopped: in a file that is whole or not there, so that the next call goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from extrapo.evaluation.probes.likelihood import Likelihood
from extrapo.files import write_text

#: Seconds between two writings: what a kill costs at most.
EVERY = 5.0


class Unfinished:
    """The likelihoods so far, by the part of the task that they belong to.

    Args:
        path: where they are kept; None keeps nothing.
        key: all that they depend on; what is kept under another one is not taken.
        every: seconds between two writings.
    """

    def __init__(self, path: Path | None = None, key: str = "", every: float = EVERY) -> None:
        self.path, self.key, self.every = path, key, every
        self._found: dict[str, Sequence[Likelihood]] = {}
        self._written_at = time.monotonic()
        if path is not None:
            # What cannot be read is not there: it costs time and nothing else.
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                kept = json.loads(path.read_text(encoding="utf-8"))
                if kept["key"] == key:
                    self._found = {part: [Likelihood(*one) for one in found] for part, found in kept["found"].items()}

    @property
    def count(self) -> int:
        """Answers that are known."""
        return sum(map(len, self._found.values()))

    def known(self, part: str) -> Sequence[Likelihood]:
        """What was found of a part."""
        return self._found.get(part, ())

    def keep(self, part: str, found: Sequence[Likelihood]) -> None:
        """Take what is found of a part by now; written now and then."""
        self._found[part] = found
        if time.monotonic() - self._written_at >= self.every:
            self.save()

    def save(self) -> None:
        """Write all that is found.

        Raises:
            OSError: the disk refuses.
        """
        if self.path is not None:
            write_text(self.path, json.dumps({"key": self.key, "found": self._found}))
        self._written_at = time.monotonic()

    def forget(self) -> None:
        """The task is through: nothing has to be known any more."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
