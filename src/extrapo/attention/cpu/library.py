"""Library: C++ as machine code for this processor, kept on disk: a second is waited for once, whatever the formula.

It lies in the cache folder of this user (`$XDG_CACHE_HOME/extrapo/compiled`), and is trusted as what is there is: code
that is run. Where that folder cannot be written, a temporary one serves this process. Nothing is compiled where no C++
compiler is found, or with PyTorch's own switch TORCH_COMPILE_DISABLE=1 in the environment.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from extrapo.files import cache_folder, locked, private_folder

#: A product and a sum are one instruction, with one rounding: a polynomial takes half the time. Nothing else is
#: assumed that would move a result: not that sums may be taken in another order, nor that all numbers are finite.
FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp-simd", "-ffp-contract=fast"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fno-plt", "-w"),
)


#: What whatever is compiled needs: the headers, the flags, and a library that can be loaded.
TRIAL = (
    '#include <cmath>\n#include <cstdint>\n#include <limits>\nextern "C" double trial(double x) { return sqrt(x); }\n'
)


class CompileError(Exception):
    """The compiler or the disk refused, in one line."""


@lru_cache(maxsize=1)
def compiler() -> str | None:
    """The C++ compiler; None where there is none, or compiling is switched off."""
    if os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1":
        return None
    return next(
        (path for name in (os.environ.get("CXX"), "g++", "c++", "clang++") if name and (path := shutil.which(name))),
        None,
    )


def flags() -> tuple[str, ...]:
    """Those of this processor."""
    native = "-mcpu=native" if platform.machine() == "arm64" else "-march=native"
    wide = ("-mprefer-vector-width=512",) if torch.backends.cpu.get_cpu_capability() == "AVX512" else ()
    return (*FLAGS, native, *wide)


@lru_cache(maxsize=1)
def shortcoming() -> str | None:
    """Why nothing can be compiled, kept and loaded here, in one line; None where it can. The trial is kept too."""
    if (program := compiler()) is None:
        return "no C++ compiler is at hand"
    try:
        made(program, users_folder(), TRIAL)
    except CompileError as cause:
        return f"the C++ compiler is of no use: {cause}"
    return None


def library(source: str) -> ctypes.CDLL:
    """The functions of a source; compiled where they are not on disk, by one process at a time.

    Raises:
        CompileError: the compiler or the disk refused, or there is no compiler.
    """
    if (program := compiler()) is None:
        raise CompileError("no C++ compiler is at hand")
    return made(program, users_folder(), source)


def made(program: str, folder: Path, source: str) -> ctypes.CDLL:
    """The functions of a source, as a program compiles it; they are kept in a folder, or for this process elsewhere.

    Raises:
        CompileError: it did not, or what it made cannot be kept or loaded.
    """
    command = [program, *flags()]
    digest = hashlib.sha256("\n".join([source, *command, processor()]).encode()).hexdigest()[:32]
    try:
        file = writable(folder) / f"{digest}.so"
        with locked(file.with_suffix(".lock")):
            if not file.exists():
                code, partial = file.with_suffix(".cpp"), file.with_suffix(".part")
                code.write_text(source, encoding="utf-8")
                done = subprocess.run([*command, "-o", str(partial), str(code)], capture_output=True, text=True)
                if done.returncode:
                    raise CompileError(
                        next((line for line in done.stderr.splitlines() if "error" in line), f"{program} failed")
                    )
                os.replace(partial, file)
        return ctypes.CDLL(str(file))
    except OSError as cause:
        raise CompileError(" ".join(str(cause).split())) from cause


def users_folder() -> Path:
    """Where this user's libraries belong."""
    return cache_folder() / "compiled"


@lru_cache(maxsize=8)
def writable(folder: Path) -> Path:
    """The folder, this user's alone; a temporary one that goes with this process where it is not, or cannot be written.

    Raises:
        OSError: neither can.
    """
    try:
        own = private_folder(folder)
        with tempfile.TemporaryFile(dir=own):
            return own
    except OSError:
        own = Path(tempfile.mkdtemp(prefix="extrapo-"))
        atexit.register(remove, own, os.getpid())
        return own


def remove(folder: Path, owner: int) -> None:
    """Delete a folder, unless this is a process forked from its owner."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=1)
def processor() -> str:
    """What the system says of the processor, its instructions included."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if "MHz" not in line and "mips" not in line.lower())
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
