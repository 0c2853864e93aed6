"""Where a trial runs: a process of a machine, and whether it is still alive."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

#: Set in the environment of a trial's processes, so that those left behind by a dead one are known.
MARK = "EXTRAPO_TRIAL_OF"


@cache
def machine() -> str:
    """This machine, since its last start: process numbers mean nothing elsewhere, nor after."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        return f"{socket.gethostname()} {boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return f"{socket.gethostname()} {int(psutil.boot_time())}"


def place(pid: int | None = None) -> dict[str, Any]:
    """A process as the storage keeps it."""
    process = psutil.Process(pid)
    return {"machine": machine(), "pid": process.pid, "born": process.create_time()}


def is_here(where: Mapping[str, Any]) -> bool:
    """Whether a place is on this machine."""
    return bool(where) and where["machine"] == machine()


def is_alive(where: Mapping[str, Any]) -> bool:
    """Whether the process of a place on this machine still runs, and is not another of the same number."""
    try:
        process = psutil.Process(where["pid"])
        return abs(process.create_time() - where["born"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_what_is_left(where: Mapping[str, Any], trial: str) -> None:
    """Kill the ranks that a trial's dead first process has left in its process group."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == where["pid"] and process.environ().get(MARK) == trial:
                process.send_signal(signal.SIGKILL)
