"""The cell of a run: what it shares with the runs that differ from it in their seed alone, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from extrapo.config.naming import DERIVED, WITHOUT_RESULT, set_by_hand
from extrapo.config.run import RunConfig

#: How a setting is told where its name and value are not the words for it.
WORDS = {"encoding": "{}", "layers": "{} layers", "steps": "{} steps", "seq_len": "T {}"}
#: Told of every run, also where they are what a run has by default.
ALWAYS = ("encoding", "layers")


def cell_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that tell a run's cell: encoding, layers, and all that is not as it would be if nothing was said.

    Args:
        config: a run's settings, resolved or not, as plain values; what is missing has its default.

    Raises:
        pydantic.ValidationError: it is not a run's.
    """
    run = RunConfig.model_validate(dict(config))
    usual = RunConfig()
    told = {
        key: getattr(run, key)
        for key in _order()
        if key not in DERIVED and (key in ALWAYS or getattr(run, key) != getattr(usual, key))
    }
    if run.init is not None:
        # Whose weights it started from is the seed's matter; whether it did is not.
        told["init"] = True
    told |= set_by_hand(run)
    return {name: value for key, setting in told.items() for name, value in _flat(key, setting)}


def cell_name(config: Mapping[str, Any]) -> str:
    """The cell in a line, as in `cable, kernel log, 6 layers`; equal for two runs that differ in their seed alone."""
    return ", ".join(_told(name, value) for name, value in cell_settings(config).items())


def _order() -> Iterator[str]:
    """The settings that are told: first those that a name of a run has, then as they are declared."""
    first = ("encoding", "kernel", "layers")
    yield from first
    yield from (key for key in RunConfig.model_fields if key not in first and key not in WITHOUT_RESULT)


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(`outer.inner`, value) for the leaves of a mapping, without the mapping's own name: an option is known by its."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            prefix = "" if key in ("encoding_options", "swap_options") else f"{key}."
            yield from _flat(f"{prefix}{inner}", one)
    else:
        yield key, value


def _told(name: str, value: Any) -> str:
    if name == "init":
        return "continued"
    if name in WORDS:
        return WORDS[name].format(value)
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    return f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
