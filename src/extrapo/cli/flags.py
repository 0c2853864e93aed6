"""The settings of a run as flags, in the sections in which help shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter
from pydantic import create_model

from extrapo.config import (
    ComputeSettings,
    EncodingSettings,
    EvaluationSettings,
    HardwareSettings,
    InitSettings,
    RecordSettings,
    RunConfig,
    Settings,
    ShapeSettings,
    SwapSettings,
    TextSettings,
    TrainingSettings,
)

#: The sections of help, and whose settings each shows.
SECTIONS: dict[str, tuple[type[Settings], ...]] = {
    "Model": (EncodingSettings, SwapSettings, ShapeSettings),
    "Text": (TextSettings,),
    "Training": (InitSettings, TrainingSettings),
    "Evaluation": (EvaluationSettings,),
    "Hardware": (HardwareSettings, ComputeSettings),
    "Record": (RecordSettings,),
}
#: The settings that help shows before all others: what is trained, on what, for how long.
FIRST = Group("What matters first", sort_key=-1)
MATTER_FIRST = ("encoding", "kernel", "layers", "data", "seq_len", "steps", "lengths", "seed", "name")


def sectioned() -> type[RunConfig]:
    """RunConfig, each field with the help section that it belongs to; the few that matter come first."""
    sections = {
        name: Group(title, sort_key=number)
        for number, (title, groups) in enumerate(SECTIONS.items())
        for group in groups
        for name in group.model_fields
    } | dict.fromkeys(MATTER_FIRST, FIRST)
    fields: dict[str, Any] = {}
    for name, field in RunConfig.model_fields.items():
        # Lightning's users know `nodes` under another name.
        alias = "--num-nodes" if name == "nodes" else None
        marks = Parameter(group=sections[name], alias=alias)
        fields[name] = (Annotated[field.annotation, marks, *field.metadata], field)
    return create_model("Flags", __base__=RunConfig, **fields)


if TYPE_CHECKING:
    Flags: TypeAlias = RunConfig
else:
    Flags = sectioned()
