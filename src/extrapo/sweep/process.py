"""The process of a trial: which one of which machine, and whether it is still alive."""

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


def identity() -> dict[str, Any]:
    """What tells this process from every other, as the storage keeps it."""
    process = psutil.Process()
    return {"machine": machine(), "pid": process.pid, "born": process.create_time()}


def is_here(identity: Mapping[str, Any]) -> bool:
    """Whether a process is of this machine; an empty identity is of none."""
    return bool(identity) and identity["machine"] == machine()


def is_alive(identity: Mapping[str, Any]) -> bool:
    """Whether a process of this machine still runs, and is not another of the same number."""
    try:
        process = psutil.Process(identity["pid"])
        return abs(process.create_time() - identity["born"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_group(identity: Mapping[str, Any], trial: str) -> None:
    """Kill the ranks that a trial's dead first process has left in its process group."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == identity["pid"] and process.environ().get(MARK) == trial:
                process.send_signal(signal.SIGKILL)
