"""Weights of a checkpoint that a module of today has no more."""

from __future__ import annotations

from typing import Any

from torch import nn


def forget(name: str, module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """A hook before a state dict is loaded: leave out all whose name under the module begins with `name`."""
    for key in [key for key in state if key.startswith(prefix + name)]:
        del state[key]
