"""What is to be recorded lies on the disk first, and a thread delivers it: nothing waits for a store that is away."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from extrapo.errors import MachineError, UserError
from extrapo.location import UNDELIVERED, Location, redacted
from extrapo.tracking.entries import Destination, End, Entry, Scalars, of_line, to_line
from extrapo.tracking.store import RunStore

#: Seconds between attempts, and that the end of a run waits at most.
RETRY, PATIENCE = 1.0, 30.0
#: Seconds of waiting after which the wait is said.
SILENT = 2.0
#: Entries with scalars that go in one call.
AT_ONCE = 100


class Journal:
    """The entries of one run that are not delivered, a line each. One process at a time has it.

    Args:
        folder: of the run.

    Raises:
        UserError: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / UNDELIVERED
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout as cause:
            raise UserError(f"run {folder.name} is at work in another process") from cause
        self._path = path = self.folder / "journal.jsonl"
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
        self.left = [entry for line in text.splitlines() if (entry := of_line(line)) is not None]
        self._file = path.open("a", encoding="utf-8")
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def append(self, entry: Entry) -> None:
        """Write an entry down; from here on the death of the process does not lose it.

        Raises:
            MachineError: the run's folder was deleted or moved.
        """
        if not self.is_in_place:
            raise MachineError(f"'{self.folder.parent}' was deleted or moved while its run went, which ends here")
        self._file.write(f"{to_line(entry)}\n")
        self._file.flush()

    @property
    def is_in_place(self) -> bool:
        """Whether its file is still where it was made."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def clear(self) -> None:
        """All of it is delivered."""
        self._file.truncate(0)

    def close(self, *, delivered: bool) -> None:
        """Give it up; where all is delivered nothing stays."""
        self._file.close()
        if delivered:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


class Outbox:
    """Takes entries at once and delivers them in their order, in a thread, for as long as it takes.

    Args:
        to: where they go; nobody else uses it.
        journal: where they lie until then; what lies there already is delivered first.
        store: the store's address, for people.
        say: receives a line when the store is away, and when it is back.
        patience: seconds that `close` waits at most while nothing is taken; PATIENCE where it is None.
    """

    def __init__(
        self,
        to: Destination,
        journal: Journal,
        store: str,
        say: Callable[[str], None],
        patience: float | None = None,
    ) -> None:
        self.to, self.journal, self.store, self.say = to, journal, redacted(store), say
        self.patience = PATIENCE if patience is None else patience
        self._waiting: deque[Entry] = deque(journal.left)
        self._changed = threading.Condition()
        self._closed = self._given_up = self._away = False
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Take an entry.

        Raises:
            OSError: the disk refuses it.
            MachineError: the run's folder was deleted or moved.
        """
        with self._changed:
            self.journal.append(entry)
            self._waiting.append(entry)
            self._changed.notify_all()

    @property
    def is_delivered(self) -> bool:
        """Whether nothing waits."""
        with self._changed:
            return not self._waiting

    def close(self) -> bool:
        """Wait until all is delivered, or nothing has been while patience lasts; whether all is. The rest stays."""
        told, self._moved = False, time.monotonic()
        began, is_in_place = self._moved, self.journal.is_in_place
        try:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
                while self._waiting and is_in_place and time.monotonic() - self._moved < self.patience:
                    self._changed.wait(0.1)
                    if not told and time.monotonic() - began > SILENT:
                        told = True
                        self.say(f"waiting up to {self.patience:.0f} s for {self.store} to take what is recorded")
        finally:
            with self._changed:
                self._given_up = True
                self._changed.notify_all()
                left = len(self._waiting)
                self.journal.close(delivered=not left)
        if left and not is_in_place:
            self.say(
                f"{left} records of run {self.to.run_id[:8]} that {self.store} has not taken were deleted or moved "
                f"with its folder; `extrapo deliver` finds them where that is now"
            )
        elif left:
            self.say(
                f"{self.store} has not taken {left} records of run {self.to.run_id[:8]}: they lie in "
                f"'{self.journal.folder}', and `extrapo deliver` sends them when it is back"
            )
        return not left

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._given_up or not self._waiting:
                    return
                batch = list(first_of(self._waiting))
            try:
                deliver(batch, self.to)
            except Exception as fault:
                self.to.forget()
                self._tell_away(fault)
                with self._changed:
                    if self._changed.wait_for(lambda: self._given_up, RETRY):
                        return
                continue
            with self._changed:
                for _ in batch:
                    self._waiting.popleft()
                left, self._moved = len(self._waiting), time.monotonic()
                if not left and not self._given_up:
                    self.journal.clear()
                self._changed.notify_all()
            if self._away:
                self._away = False
                self.say(f"{self.store} is back: what was kept for it is being delivered")

    def _tell_away(self, fault: Exception) -> None:
        """Once, until it is back."""
        if not self._away:
            self._away = True
            self.say(
                f"{self.store} takes nothing ({reason(fault)}); the run goes on, and what it records is kept in "
                f"'{self.journal.folder}' until it is back"
            )


def first_of(waiting: Sequence[Entry] | deque[Entry]) -> Iterator[Entry]:
    """The first entry, with the scalars that follow it if it is one of scalars."""
    for number, entry in enumerate(waiting):
        if number and not (isinstance(entry, Scalars) and isinstance(waiting[0], Scalars) and number < AT_ONCE):
            return
        yield entry


def deliver(batch: Sequence[Entry], to: Destination) -> None:
    """Record entries, in one call where they are scalars."""
    scalars = [entry for entry in batch if isinstance(entry, Scalars)]
    if scalars:
        to.scalars(scalars)
        return
    for entry in batch:
        entry.deliver(to)


def reason(fault: Exception) -> str:
    """Why a store takes nothing, in a few words."""
    text = redacted(" ".join(str(fault).split()))
    for sign, meaning in (
        ("database is locked", "another program holds the database"),
        ("Connection refused", "no server answers"),
        ("Max retries exceeded", "no server answers"),
        ("Connection aborted", "the server broke off"),
        ("Connection broken", "the server broke off"),
        ("Connection reset", "the server broke off"),
        ("database or disk is full", "no space left on device"),
    ):
        if sign in text:
            return meaning
    return text[:160] or type(fault).__name__


def undelivered(location: Location) -> list[Path]:
    """The folders of the runs that have records left to deliver."""
    journals = location.root.glob(f"*/{UNDELIVERED}/journal.jsonl")
    return sorted(path.parents[1] for path in journals if path.stat().st_size)


def deliver_left(location: Location, say: Callable[[str], None]) -> dict[str, int]:
    """Deliver what earlier runs of a root could not; how many records of each run. Runs at work are left alone.

    Raises:
        UserError: there is no store, or no server answers.
    """
    delivered: dict[str, int] = {}
    folders = undelivered(location)
    store = RunStore.existing(location)
    for folder in folders:
        try:
            journal = Journal(folder)
        except UserError as busy:
            say(str(busy))
            continue
        outbox = Outbox(Destination(store.client, folder.name, folder), journal, location.uri, say)
        if outbox.close():
            delivered[folder.name] = len(journal.left)
    return delivered


def without_end(entries: Sequence[Entry]) -> list[Entry]:
    """What is left of a run that goes on: it has not ended."""
    return [entry for entry in entries if not isinstance(entry, End)]
