"""A run's configuration in MLflow: flattened as parameters, whole as `config.yaml`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from extrapo.files import write_text

if TYPE_CHECKING:
    from mlflow import MlflowClient


def record(client: MlflowClient, run_id: str, config: Mapping[str, Any], folder: Path) -> None:
    """Write `config.yaml`, and the parameters that the run does not have yet: MLflow never changes one."""
    from mlflow.entities import Param
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

    recorded = client.get_run(run_id).data.params
    flat = {_name(key): str(value)[:MAX_PARAM_VAL_LENGTH] for key, value in flatten(config)}
    params = [Param(key, value) for key, value in flat.items() if key not in recorded]
    for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + MAX_PARAMS_TAGS_PER_BATCH])
    plain = json.loads(json.dumps(config, default=_plain))
    path = write_text(folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    client.log_artifact(run_id, str(path))


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings as (`outer.inner`, value); an empty mapping has none."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(key: str) -> str:
    """A parameter name that MLflow accepts, at most 250 characters."""
    return re.sub(r"[^\w\-./ :]", "_", key)[:250]


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)
