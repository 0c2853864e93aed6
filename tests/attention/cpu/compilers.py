"""Compilers that are not what they should be, in the place of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from extrapo.attention.cpu.library import compiler


def through(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """A script in the place of the compiler."""
    program = folder / "compiler"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    compiler.cache_clear()


def refusing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The compiler that there is, for a few lines; whatever is longer it refuses. Its cache is `folder`."""
    found = compiler()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    last = 'for last; do :; done; [ $(wc -l < "$last") -gt 50 ] && echo "error: too long" >&2 && exit 1'
    through(monkeypatch, folder, f'{last}; exec "{found}" "$@"')
