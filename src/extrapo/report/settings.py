"""What tells runs apart, what they share, and the command that makes each of them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from extrapo.config import RunConfig

#: Where a run is kept, not what it is.
PLACES = ("root", "tracking_uri", "experiment", "name")


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which some runs differ, in the order of the configuration."""
    keys = list(dict.fromkeys(key for config in configs for key in config if key not in PLACES))
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]


def shared(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The settings that all have alike, but for those that are not set, by name, for people."""
    varied = differing(configs)
    return {
        key: told(value)
        for key, value in configs[0].items()
        if key not in (*varied, *PLACES) and value not in (None, {}, [], ())
    }


def told(value: Any) -> str:
    """A setting's value, for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {told(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def command_lines(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """`extrapo fit` with every setting of a recorded run that does not follow from the others, of each run."""
    # Nothing follows from a seed: of runs that differ in it alone, the settings are looked at once.
    known: dict[str, set[str]] = {}
    lines = []
    for config in configs:
        asked = {key: value for key, value in config.items() if key not in PLACES and not _is_usual(key, value)}
        alike = repr({key: value for key, value in asked.items() if key != "seed"})
        if alike not in known:
            known[alike] = _needed(asked) | {"seed"}
        flags = [flag(key, value) for key, value in asked.items() if key in known[alike]]
        lines.append(" ".join(["extrapo fit", *map(shlex.join, flags)]))
    return lines


def _is_usual(key: str, value: Any) -> bool:
    """Whether a setting is what it is where nobody says, or none of this version."""
    fields = RunConfig.model_fields
    return key not in fields or bool(value == fields[key].get_default(call_default_factory=True))


def _needed(asked: Mapping[str, Any]) -> set[str]:
    """The settings that do not follow from the others."""
    whole, needed = _resolved(asked), dict(asked)
    for key in asked:
        fewer = {other: value for other, value in needed.items() if other != key}
        try:
            needed = fewer if _resolved(fewer) == whole else needed
        except ValueError:
            continue
    return set(needed)


def _resolved(asked: Mapping[str, Any]) -> dict[str, Any]:
    """All settings but the places, with what follows."""
    # A name of its own: the usual one is made of everything else, which takes longer than that.
    whole = RunConfig.model_validate({**asked, "name": "any"}).resolved()
    return {key: one for key, one in dict(whole).items() if key not in PLACES}


def flag(key: str, value: Any) -> list[str]:
    """One setting on the command line."""
    name = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    if isinstance(value, Mapping):
        return [word for inner, one in value.items() for word in flag(f"{key}.{inner}", one)]
    if isinstance(value, list | tuple):
        return [name, *map(str, value)]
    return [name, str(value)]
