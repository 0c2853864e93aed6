"""Triton's interpreter is chosen by the environment, before Triton is first imported: it has a process of its own."""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import nullcontext

import pytest
import torch

#: Why nothing of Triton runs.
ABSENT = "triton is not installed: pip install 'extrapo[triton]'"


def is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(scope="session")
def triton() -> None:
    """Triton, or the test is skipped."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip(ABSENT)


@pytest.fixture(scope="session")
def interpreter(triton: None) -> None:
    """Its interpreter, or the test is skipped: test_in_the_interpreter.py runs it."""
    if not is_interpreted():
        pytest.skip("needs TRITON_INTERPRET=1 in the environment")


@pytest.fixture(scope="session")
def compiler(triton: None) -> None:
    """Its compiler, or the test is skipped."""
    if is_interpreted():
        pytest.skip("with TRITON_INTERPRET=1 in the environment nothing is compiled")


@pytest.fixture
def meta_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast where tensors have no numbers: that device has none."""
    # The compiler notes these functions when it loads.
    importlib.import_module("torch._dynamo")
    real, asked = torch.autocast, torch.is_autocast_enabled
    monkeypatch.setattr(torch, "autocast", lambda kind, **o: nullcontext() if kind == "meta" else real(kind, **o))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != "meta" and asked(kind))
