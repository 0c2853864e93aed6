"""The settings of a run as flags, in the sections in which help shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter
from pydantic import create_model

from extrapo.config import RunConfig

#: The first setting of each section; the rest follow in the order in which they are defined.
SECTIONS = {
    "encoding": "Model",
    "data": "Text",
    "seq_len": "Training",
    "lengths": "Evaluation",
    "devices": "Hardware",
    "root": "Record",
}


def sectioned() -> type[RunConfig]:
    """RunConfig, each field with the help section that it belongs to."""
    fields: dict[str, Any] = {}
    group: Group | None = None
    for name, field in RunConfig.model_fields.items():
        if name in SECTIONS:
            group = Group(SECTIONS[name], sort_key=len(fields))
        # Lightning's users know `nodes` under another name.
        alias = "--num-nodes" if name == "nodes" else None
        marks = Parameter(group=group, negative_iterable=(), alias=alias)
        fields[name] = (Annotated[field.annotation, marks, *field.metadata], field)
    return create_model("Flags", __base__=RunConfig, **fields)


if TYPE_CHECKING:
    Flags: TypeAlias = RunConfig
else:
    Flags = sectioned()
