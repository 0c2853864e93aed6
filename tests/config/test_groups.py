"""The groups of settings: each setting is declared once, and none of them needs torch."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from extrapo.config import GPTConfig, ResolvedConfig, RunConfig, Settings

GROUPS = [group for group in RunConfig.__mro__ if issubclass(group, Settings) and group not in (RunConfig, Settings)]


def declared(owner: type[Settings]) -> set[str]:
    """The settings that a class declares itself."""
    return set(inspect.get_annotations(owner)) & set(owner.model_fields)


def test_a_run_is_its_groups() -> None:
    names = [name for group in GROUPS for name in declared(group)]
    assert sorted(names) == sorted(RunConfig.model_fields)
    assert not declared(RunConfig)
    assert all(field.description for field in RunConfig.model_fields.values())


def test_what_is_declared_again_has_another_type_or_default() -> None:
    for owner in (GPTConfig, ResolvedConfig):
        for name in declared(owner) & set(RunConfig.model_fields):
            mine, theirs = owner.model_fields[name], RunConfig.model_fields[name]
            assert (mine.annotation, mine.default) != (theirs.annotation, theirs.default), name
    assert declared(GPTConfig) & set(RunConfig.model_fields) == {"vocab_size", "heads", "dim"}


@pytest.mark.slow
@pytest.mark.parametrize("module", ["extrapo", "extrapo.config", "extrapo.cli"])
def test_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; print(*{{'torch', 'lightning', 'mlflow', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
