"""The two ways a command fails: a mistake of the user's (exit code 2) and a fault of the machine's (1)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """A mistake that the user can mend; its one-line message says how. Exit code 2.

    A setting stands in it in backticks, as Python spells it: `top_k`, or `accelerator='gpu'`. The command line makes
    its flags of them.
    """


class MachineError(RuntimeError):
    """What the machine refused (a full disk, a folder without write permission). Exit code 1."""


class Interrupted(KeyboardInterrupt):
    """A run that a signal stopped where it cannot say so as its result: in its curve, or a second time.

    Args:
        run_id: the run, which goes on from what it has saved.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was interrupted")
        self.run_id = run_id


#: More names than this are only listed where none is near the one given.
MANY = 30


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that is not there: what is near it, and what there is."""
    names = sorted(names)
    if not names:
        return UserError(f"unknown {kind} '{name}'; there is none yet")
    # Papers and people differ in capitals.
    folded = {one.casefold(): one for one in names}
    near = [folded[one] for one in get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)]
    if near and len(names) > MANY:
        return UserError(f"unknown {kind} '{name}'; did you mean '{near[0]}'?")
    hint = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"unknown {kind} '{name}'; {hint}known: {', '.join(names)}")


def complaint(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings as people read it: `must be a valid integer, not 'six'`."""
    message = error["msg"].removeprefix("Value error, ").split(", unable to parse")[0]
    message = message.replace("Input should be", "must be").replace("Field required", "is missing")
    if error["type"] == "too_short":
        return f"needs at least {error['ctx']['min_length']}"
    needs_value = message.startswith("must be") and ", not " not in message
    return f"{message}, not {error['input']!r}" if needs_value else message


def complaints(mistake: ValidationError) -> str:
    """All of pydantic's findings in one line, each behind the key in a file that it is about."""
    findings = (f"{'.'.join(map(str, error['loc'])) or 'settings'}: {complaint(error)}" for error in mistake.errors())
    return "; ".join(dict.fromkeys(findings))


class NotApplicable(UserError):
    """The model is not defined at this length (a learned table past its end); a curve says so and goes on."""


#: Errors of the operating system that are nobody's mistake here.
REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE),
)


#: Errors of the operating system that are a mistake in a path.
MISPLACED = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST)
#: Environment variables of libraries.
VARIABLE = re.compile(r"\b(?:MLFLOW|TORCH|PYTORCH|OPTUNA|TRITON|HF|NCCL)_[A-Z_]+\b")
#: What PyTorch, NumPy and Python say where memory ends; only the last has a class of its own.
OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "Storage size calculation overflowed")


def misplacement(fault: BaseException) -> str | None:
    """What is wrong with the path that somebody named, where that is what failed."""
    if isinstance(fault, OSError) and fault.errno in MISPLACED and fault.filename is not None:
        return f"'{fault.filename}': {fault.strerror}"
    return None


def unheeded(fault: BaseException | None) -> str | None:
    """What is wrong with an environment variable that a library reads, where it says so of a value that is none."""
    while fault is not None:
        named = (name for name in VARIABLE.findall(str(fault)) if name in os.environ)
        if isinstance(fault, ValueError) and (name := next(named, None)) is not None:
            # Its value is not repeated: of some variables that is a secret.
            return f"{name} in the environment has no value that it can have: {' '.join(str(fault).split())[:160]}"
        fault = fault.__cause__ or fault.__context__
    return None


def refusal(fault: BaseException | None) -> str | None:
    """What the machine refused, where that is at the bottom of a failure: a full disk, a missing permission."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in REFUSED:
            return f"{fault.strerror}: '{fault.filename}'" if fault.filename else str(fault.strerror)
        if "database or disk is full" in str(fault):
            return "No space left on device, for a database"
        if "disk I/O error" in str(fault):
            return "The disk refused to write, for a database"
        if "attempt to write a readonly database" in str(fault):
            return "Permission denied, for a database"
        if isinstance(fault, MemoryError) or any(sign in str(fault) for sign in OUT_OF_MEMORY):
            return f"not enough memory: {' '.join(str(fault).split())[:200] or 'this machine has no more'}"
        fault = fault.__cause__ or fault.__context__
    return None
