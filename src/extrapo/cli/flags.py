"""The settings of a run as flags, in the sections in which help shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter, Token
from pydantic import create_model

from extrapo.cli.brief import ALL, Named
from extrapo.config import (
    ComputeSettings,
    EncodingFormSettings,
    EncodingSettings,
    EvaluationSettings,
    HardwareSettings,
    InferenceSettings,
    InitSettings,
    MeasurementSettings,
    ProbeSettings,
    RecordSettings,
    RunConfig,
    Settings,
    ShapeSettings,
    StoreSettings,
    SwapSettings,
    TextSettings,
    TokenizerSettings,
    TrainingSettings,
)
from extrapo.errors import UserError

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
MATTER_FIRST = ("encoding", "kernel", "layers", "data", "seq_len", "steps", "lengths", "seed", "name")
#: The headings of help, of every command; what matters first has none before it.
FIRST = Group("What matters first", sort_key=-1)
MODEL, TEXT, TRAINING, EVALUATION, HARDWARE, RECORD = SECTION_GROUPS = tuple(
    Group(title, sort_key=number) for number, title in enumerate(SECTIONS)
)
#: Each setting, and the heading below which it stands unless it matters first.
HEADINGS = {
    name: heading
    for heading, groups in zip(SECTION_GROUPS, SECTIONS.values(), strict=True)
    for group in groups
    for name in group.model_fields
} | {"skip": HARDWARE, "device": HARDWARE, "batch_tokens": HARDWARE}


def sectioned(settings: type[Settings], first: Collection[str] = (), *, brief: str = "") -> type[Settings]:
    """Settings whose fields say below which heading of help they stand.

    Args:
        settings: of a command.
        first: those that matter first.
        brief: of a command whose flags fill more than a screen, its name: all others are only named.
    """
    lead = f"and others, of which `extrapo {brief} {ALL}` tells what they are for:"
    named = {
        group: Group(group.name, sort_key=number, help_formatter=Named("" if number else lead))
        for number, group in enumerate(SECTION_GROUPS)
    }
    fields: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        # Lightning's users know `nodes` under another name.
        alias = "--num-nodes" if name == "nodes" else None
        heading = HEADINGS.get(name, EVALUATION)
        marks = Parameter(group=FIRST if name in first else named[heading] if brief else heading, alias=alias)
        fields[name] = (Annotated[field.annotation, marks, *field.metadata], field)
    return create_model("Flags", __base__=settings, **fields)


def written(kind: type, tokens: Sequence[Token]) -> Path:
    """The path of what is to be written; Python takes an empty one for the folder that it is called from.

    Raises:
        UserError: an empty one, or one that no system could have.
    """
    if not tokens[0].value.strip():
        raise UserError("it must not be empty")
    from extrapo.reading import path_of

    return path_of(tokens[0].value)


if TYPE_CHECKING:
    Flags: TypeAlias = RunConfig
    FormFlags: TypeAlias = EncodingFormSettings
    MeasurementFlags: TypeAlias = MeasurementSettings
    InferenceFlags: TypeAlias = InferenceSettings
    ProbeFlags: TypeAlias = ProbeSettings
    StoreFlags: TypeAlias = StoreSettings
    TokenizerFlags: TypeAlias = TokenizerSettings
else:
    Flags = sectioned(RunConfig, MATTER_FIRST, brief="fit")
    FormFlags = sectioned(EncodingFormSettings)
    MeasurementFlags = sectioned(MeasurementSettings, ("lengths", "protocol"))
    InferenceFlags = sectioned(InferenceSettings)
    ProbeFlags = sectioned(ProbeSettings, ("task", "lengths", "items", "seed"))
    StoreFlags = sectioned(StoreSettings)
    TokenizerFlags = sectioned(TokenizerSettings)

#: Of every command that reports.
Json: TypeAlias = Annotated[
    bool, Parameter(help="One JSON document on stdout, everything else on stderr.", negative=())
]
#: Where a command writes.
Written: TypeAlias = Annotated[Path, Parameter(converter=written)]
#: Where runs are kept.
Store: TypeAlias = Annotated[StoreFlags, Parameter(name="*")]


def check_used(given: Mapping[str, object], why: str) -> None:
    """Whether nobody gave what would do nothing.

    Args:
        given: settings of no use here, and whether they were given.
        why: they are not.

    Raises:
        UserError: somebody did.
    """
    names = [f"`{name}`" for name, value in given.items() if value]
    if names:
        raise UserError(f"{why}: leave {' and '.join(names)} out")


def default_shown(value: object) -> str | None:
    """A default as help tells it; nothing where it is that a flag is not given."""
    if value is None or value is False or value in ((), {}, ""):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
