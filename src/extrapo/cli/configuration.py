"""Where a run's settings come from: defaults, then YAML files in order, then flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from extrapo.config import RunConfig
from extrapo.errors import UserError, complaints, unknown


def merged(files: Sequence[Path], flags: RunConfig) -> RunConfig:
    """Later files win over earlier ones, flags that were given over files.

    Naming another encoding drops the kernel and the options of the one before; naming the same keeps them.

    Raises:
        UserError: a file that is missing or not a mapping, or a key that does not exist.
    """
    settings: dict[str, Any] = {}
    for layer in [*map(load_yaml, files), {key: getattr(flags, key) for key in flags.model_fields_set}]:
        if "encoding" in layer and layer["encoding"] != settings.get("encoding", layer["encoding"]):
            settings.pop("kernel", None)
            settings.pop("encoding_options", None)
        if isinstance(layer.get("encoding_options"), dict):
            layer = {
                **layer,
                "encoding_options": deep(settings.get("encoding_options", {}), layer["encoding_options"]),
            }
        settings.update(layer)
    return RunConfig.model_validate(settings)


def deep(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two mappings in one; `above` wins, mappings within are merged in turn."""
    both = dict(below)
    for key, value in above.items():
        under = below.get(key)
        both[key] = deep(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both


def load_yaml(path: Path) -> dict[str, Any]:
    """The settings of one YAML file.

    Raises:
        UserError: a mistake in it, by the file and the key.
    """
    from extrapo.reading import path_of, read_yaml

    document = read_yaml(path_of(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError(f"--config {path}: a mapping of settings is expected, not a {type(document).__name__}")
    settings: dict[str, Any] = {}
    for written, value in document.items():
        key = str(written).replace("-", "_")
        if key in settings:
            raise UserError(f"--config {path}: the key '{key}' stands twice")
        settings[key] = value
    for key in settings:
        if key not in RunConfig.model_fields:
            raise UserError(f"--config {path}: {unknown('setting', key, RunConfig.model_fields)}")
    try:
        config = RunConfig.model_validate(settings)
    except ValidationError as cause:
        raise UserError(f"--config {path}: {complaints(cause)}") from cause
    return {key: getattr(config, key) for key in settings}


def to_yaml(config: RunConfig) -> str:
    """The settings as YAML, in the order in which they are defined."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
