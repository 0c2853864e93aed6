"""The curve again: a trained model at other lengths, on other text, under another protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from extrapo.config import RunConfig
from extrapo.data import prepare
from extrapo.errors import UserError
from extrapo.evaluation import Point, default_lengths, extrapolation_curve, tokens_to_score
from extrapo.terminal import Output
from extrapo.tracking import Store
from extrapo.training import load


def find(run: str, root: Path, tracking_uri: str | None) -> tuple[Path, dict[str, Any]]:
    """The checkpoint and the configuration of a run, or of the run that a checkpoint lies in.

    Raises:
        UserError: no such run or file, or a checkpoint without its run's config.yaml beside it.
    """
    path = Path(run)
    if path.suffix == ".ckpt" or path.is_file():
        if not path.is_file():
            raise UserError(f"no checkpoint at '{path}'")
        beside = path.parent / "config.yaml"
        if not beside.is_file():
            raise UserError(f"'{path}' has no config.yaml beside it, which says what text and tokenizer it knows")
        import yaml

        return path, yaml.safe_load(beside.read_text(encoding="utf-8"))
    recorded = Store.open(root, tracking_uri).find(run)
    return recorded.checkpoint, dict(recorded.config)
