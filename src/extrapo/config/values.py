"""The kinds of values that settings take, and the spellings of them that are understood."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


def joined(value: Any) -> Any:
    """A list of encodings, one per layer, is their names joined by commas."""
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value


def _listed(value: Any) -> Any:
    """`128,256` is a list as well."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    return [item for part in parts for item in (part.split(",") if isinstance(part, str) else [part])]


def _plain(value: Any) -> Any:
    """Options given as flags arrive as text: numbers, truth values and lists are meant as such."""
    if isinstance(value, dict):
        # The parts of a composition keep their hyphens, options are Python names.
        return {k if isinstance(v, dict) else k.replace("-", "_"): _plain(v) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    for kind in (int, float, _list):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(value.lower(), value)


def _list(value: str) -> list[Any]:
    """`[13, 198]`; ValueError for what is no list."""
    items = json.loads(value)
    if not isinstance(items, list):
        raise ValueError(value)
    return items


Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Lengths = Annotated[tuple[Count, ...], BeforeValidator(_listed)]
#: Registry names: several joined by `+` in one layer, by commas from layer to layer.
EncodingName = Annotated[str, BeforeValidator(joined)]
Options = Annotated[dict[str, Any], BeforeValidator(_plain)]
Norm = Literal["layernorm", "rmsnorm"]
MLP = Literal["gelu", "swiglu"]
SwapSchedule = Literal["cosine", "constant"]
SwapOptimizer = Literal["same", "fresh"]
