"""A trained run opened again: its model, its configuration, its tokenizer, its curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.data import Tokenizer
from extrapo.errors import UserError, complaints
from extrapo.gpt import GPT
from extrapo.location import Location
from extrapo.tracking import RunStore
from extrapo.tracking.curves import read_sheet
from extrapo.training import load_checkpoint

CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class LoadedRun:
    """A trained model and what lies beside it in the folder of its run.

    Args:
        checkpoint: the file of the weights.
        model: the trained model, in evaluation mode.
    """

    checkpoint: Path
    model: GPT = field(repr=False)

    @cached_property
    def config(self) -> ResolvedConfig:
        """The configuration as the run was trained; UserError if it does not lie beside the checkpoint."""
        return recorded_config(self.checkpoint)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What the run's text was cut by; UserError if it does not lie beside the checkpoint."""
        return Tokenizer.load(sibling_file(self.checkpoint, "tokenizer.json"))

    @cached_property
    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """The latest recorded curve by its protocol's name, a row per length; empty if the run has none."""
        curves: dict[str, list[dict[str, Any]]] = {}
        for row in read_sheet(self.checkpoint.parent):
            curves.setdefault(row["protocol"], []).append(row)
        return curves


def load(
    run: str | Path,
    *,
    root: str | Path = "runs",
    tracking_uri: str | None = None,
    device: torch.device | str = "cpu",
    impl: str | None = None,
    skip: float | None = None,
) -> LoadedRun:
    """Open a trained run. Only tensors and plain values are read from its checkpoint, never code.

    Args:
        run: its id, the beginning of it, its name, or `last`; or the path of its folder or of a checkpoint in it.
        root: folder of all runs.
        tracking_uri: MLflow server or database; None is SQLite in the root.
        device: where the model goes.
        impl: another compute path of attention than the run's.
        skip: see GPTConfig.

    Raises:
        UserError: no such run or file, or a run that stopped before its first checkpoint.
    """
    checkpoint = find_checkpoint(str(run), Location(Path(root), tracking_uri))
    return LoadedRun(checkpoint, load_checkpoint(checkpoint, device, impl, skip).gpt)


def find_checkpoint(run: str, location: Location) -> Path:
    """The checkpoint that a run's own curve belongs to: the last one; or the one that is given as a path.

    Args:
        run: as for `load`.
        location: where runs are looked up by id and name.

    Raises:
        UserError: no such run or file, or a run that stopped before its first checkpoint.
    """
    path = Path(run).expanduser()
    if run.endswith(".ckpt") or path.is_file():
        if not path.is_file():
            raise UserError(f"no checkpoint at '{path}'")
        return path
    if (path / "config.yaml").is_file():
        name, folder = path.name, path
    else:
        run_id = RunStore.existing(location).find(run)
        name, folder = run_id[:8], location.folder(run_id)
    if not (folder / CHECKPOINT).is_file():
        raise UserError(f"run {name} has no checkpoint at '{folder / CHECKPOINT}'")
    return folder / CHECKPOINT


def sibling_file(checkpoint: Path, name: str) -> Path:
    """A file of the run that a checkpoint lies in.

    Raises:
        UserError: it is not there.
    """
    path = checkpoint.parent / name
    if not path.is_file():
        raise UserError(f"'{checkpoint}' has no {name} beside it: a checkpoint is read in the folder of its run")
    return path


def recorded_config(checkpoint: Path) -> ResolvedConfig:
    """The configuration of the run that a checkpoint lies in.

    Raises:
        UserError: it is not there, or is none.
    """
    path = sibling_file(checkpoint, "config.yaml")
    try:
        recorded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise UserError(f"'{path}' is not valid YAML") from cause
    return parsed_config(recorded, str(path)).resolved()


def parsed_config(recorded: Mapping[str, Any], place: str) -> RunConfig:
    """A recorded configuration; UserError that says where it lies if this version cannot read it."""
    try:
        return RunConfig.model_validate(recorded)
    except ValidationError as cause:
        raise UserError(f"'{place}' is not a configuration of this extrapo: {complaints(cause)}") from cause
