"""The specification of a sweep, as its YAML says it: what varies, what stays, what is asked; and its cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from extrapo.config import RunConfig, joined
from extrapo.config.evaluation import default_lengths
from extrapo.errors import UserError, complaint, complaints, unknown
from extrapo.reading import path_of, read_yaml, shortened
from extrapo.sweep.objective import Objective, objective
from extrapo.sweep.text import format_cell

Scalar: TypeAlias = bool | int | float | str | None
#: The values that a cell has chosen, by the keys of the space.
Cell: TypeAlias = dict[str, Scalar]

#: Where a run is recorded is said beside the specification, and a trial is one machine's.
NOT_IN_A_SWEEP = {"root", "tracking_uri", "experiment", "name", "nodes"}
SETTINGS = [name for name in RunConfig.model_fields if name not in NOT_IN_A_SWEEP]
#: Keys whose values are encodings: a list within their list is one value, an encoding per layer.
ENCODINGS = ("encoding", "swap_to")
#: Not a part of a composition, as in `encoding.transform: [none, rope]`.
NO_PART = "none"


#: Beyond it, neighbouring whole numbers are one as floats.
FAR = 1e15


def _finite(value: Any) -> Any:
    """Whatever reads as a number that is one."""
    try:
        known = not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        known = False
    if not known:
        raise ValueError(f"must be a finite number, not {shortened(repr(value))}")
    return value


Bound = Annotated[int | float, Field(ge=-FAR, le=FAR), BeforeValidator(_finite)]
#: Cells of a grid that a machine could list, if anybody would wait for them.
MOST = 1_000_000


class Range(BaseModel):
    """From one number to another, both included; with `log`, a search samples the logarithm evenly.

    A range of two whole numbers has whole values, in steps of 1 unless `step` says otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Bound = Field(alias="from")
    stop: Bound = Field(alias="to")
    step: Annotated[Bound, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.stop < self.start:
            raise ValueError(f"a range goes up: from {self.start:g} to {self.stop:g} it does not")
        if self.log and (self.start <= 0 or self.step is not None):
            raise ValueError("a logarithmic range starts above 0 and has no step")
        return self

    def __str__(self) -> str:
        step = f" in steps of {self.step:g}" if self.step is not None else ", logarithmic" if self.log else ""
        return f"{self.start:g} to {self.stop:g}{step}"

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.start, int) and isinstance(self.stop, int) and isinstance(self.step, int | None)

    @property
    def count(self) -> int:
        """How many values it has, for a grid."""
        return math.floor((self.stop - self.start) / self._every + 1e-9) + 1

    def values(self) -> list[Scalar]:
        """All of them, for a grid."""
        return [self.start + i * self._every for i in range(self.count)]

    @property
    def _every(self) -> int | float:
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise UserError(f"a grid needs a list, or a range with a step, not {self.start:g} to {self.stop:g}")
        return step


def _listed(value: Any) -> Any:
    """A single value is a list of one."""
    return value if isinstance(value, list | dict | Range) else [value]


def _choices(value: Any) -> Any:
    """A list of different values, or a range."""
    if isinstance(value, dict):
        keys = [field.alias or name for name, field in Range.model_fields.items()]
        for key in value:
            if key not in keys:
                raise ValueError(str(unknown("key of a range", str(key), keys)))
        return value
    listed = _listed(value)
    if isinstance(listed, list):
        for index, one in enumerate(listed):
            if isinstance(one, list | dict):
                raise ValueError(f"a value is a single one, not {one}")
            if one in listed[:index]:
                raise ValueError(f"{one} is listed twice")
    return listed


def _joined(values: Any) -> Any:
    """Of a mapping by key, encodings per layer that are written as lists are names as well."""
    if not isinstance(values, dict):
        return values
    return {
        key: [joined(one) for one in listed] if key in ENCODINGS and isinstance(listed, list) else listed
        for key, listed in values.items()
    }


def _named(value: Any) -> Any:
    """`median` is `{name: median}`."""
    return {"name": value} if isinstance(value, str) else value


def _kind(value: Any) -> str:
    """What a key's values are, so that a mistake is told of that alone."""
    return "range" if isinstance(value, dict | Range) else "list"


Choices = Annotated[
    Annotated[list[Scalar], Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
    BeforeValidator(_choices),
]
Allowed = Annotated[list[Scalar], BeforeValidator(_listed)]
Space = Annotated[dict[str, Choices], BeforeValidator(_joined)]
Needs = Annotated[dict[str, Allowed], BeforeValidator(_joined)]
Named = Annotated[dict[str, Any], BeforeValidator(_named)]


class SweepSpec(BaseModel):
    """A sweep, as its YAML file says it.

    Args:
        name: of the study, and of the MLflow experiment.
        mode: `grid`, every cell; or `search`, as many trials as `trials`, chosen by a sampler.
        space: what varies: a setting of a run, to a list or a range. `encoding_options.NAME` is an option of the
            encoding; `encoding.ANY`, `encoding.OTHER` are parts that are joined by `+`, `none` for no part. An
            `encoding` may name one per layer, as in "rope+window:3,nope:1" or [rope+window:3, nope:1].
        conditions: a key of the space, to the values of other keys under which it varies; elsewhere it is left out.
        fixed: settings that all cells share.
        objective: what is asked, by name; several make a Pareto front.
        sampler, pruner: of a search, by name, or as a mapping of `name` and options.
        trials: number of trials of a search.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    mode: Literal["grid", "search"] = "grid"
    space: Space
    conditions: dict[str, Needs] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)
    objective: Annotated[list[str], BeforeValidator(_listed)] = Field(min_length=1)
    sampler: Named | None = None
    pruner: Named | None = None
    trials: Annotated[int, Field(ge=1, le=MOST)] | None = None

    @model_validator(mode="after")
    def _of_one_piece(self) -> Self:
        for key in [*self.space, *self.fixed]:
            _known_setting(key)
        twice = set(self.space) & set(self.fixed)
        if twice:
            raise ValueError(f"'{min(twice)}' is both in the space and fixed")
        if any(key.startswith("encoding.") for key in self.space) and "encoding" in {*self.space, *self.fixed}:
            raise ValueError("the encoding is given whole (encoding) or in parts (encoding.transform ...), not both")
        for key, values in self.space.items():
            if values == []:
                raise ValueError(f"an empty grid: '{key}' has no values")
            if isinstance(values, list):
                _whole_encodings(key, values)
        if not self.space:
            raise ValueError("an empty grid: the space has no keys")
        for key, needs in self.conditions.items():
            before = list(self.space)[: list(self.space).index(key)] if key in self.space else []
            for other in [key, *needs]:
                if other not in self.space:
                    raise ValueError(f"conditions: {unknown('key of the space', other, self.space)}")
            for other in needs:
                if other not in before:
                    raise ValueError(f"conditions: '{other}' must stand before '{key}' in the space")
        search = {"sampler": self.sampler, "pruner": self.pruner, "trials": self.trials}
        if self.mode == "grid":
            unused = [name for name, value in search.items() if value is not None]
            if unused:
                raise ValueError(f"a grid runs every cell to its end: leave '{unused[0]}' out, or say mode: search")
            if self.size > MOST:
                raise ValueError(f"a grid of {self.size:,} cells is more than could run; at most {MOST:,}")
        elif self.trials is None:
            raise ValueError("a search needs 'trials', the number of trials to run")
        if len({asked.name for asked in self.objectives}) < len(self.objective):
            raise ValueError("an objective is named twice")
        if len(self.objective) > 1 and self.pruner not in (None, {"name": "none"}):
            raise ValueError("a pruner needs a single objective: Optuna compares trials by one value")
        return self

    @property
    def objectives(self) -> list[Objective]:
        """What is asked."""
        return [objective(name) for name in self.objective]

    @property
    def size(self) -> int:
        """Number of trials: for a grid with conditions, at most."""
        if self.mode == "search":
            assert self.trials is not None
            return self.trials
        counts = (values.count if isinstance(values, Range) else len(values) for values in self.space.values())
        return math.prod(counts)

    def varies(self, key: str, chosen: Mapping[str, Scalar]) -> bool:
        """Whether a key has a value beside those chosen before it."""
        needs = self.conditions.get(key, {})
        return all(other in chosen and chosen[other] in allowed for other, allowed in needs.items())

    def cells(self) -> list[Cell]:
        """Every cell of a grid once, in the written order: the last key varies fastest."""
        return list(self._combinations({key: choices(values) for key, values in self.space.items()}))

    def samples(self) -> Iterator[Cell]:
        """Cells that stand for the whole space: every combination of listed values, both ends of the ranges."""
        ends: dict[str, list[Scalar]] = {
            key: [values.start, values.stop] if isinstance(values, Range) else values
            for key, values in self.space.items()
        }
        return self._combinations(ends)

    def _combinations(self, values: Mapping[str, list[Scalar]]) -> Iterator[Cell]:
        def grow(keys: list[str], chosen: Cell) -> Iterator[Cell]:
            if not keys:
                yield dict(chosen)
                return
            key, *rest = keys
            if not self.varies(key, chosen):
                yield from grow(rest, chosen)
                return
            for value in values[key]:
                yield from grow(rest, {**chosen, key: value})

        return grow(list(values), {})

    def settings(self, cell: Mapping[str, Scalar]) -> RunConfig:
        """The run of a cell, with the lengths that the objectives need.

        Raises:
            UserError: a value that the setting does not take; the message names the cell.
        """
        values: dict[str, Any] = {"encoding_options": {}}
        parts: list[str] = []
        for key, value in {**self.fixed, **cell}.items():
            head, _, tail = key.partition(".")
            if head == "encoding" and tail:
                parts += [str(value)] if value not in (NO_PART, None) else []
            elif tail:
                _put(values["encoding_options"], tail.split("."), value)
            elif key == "encoding_options":
                if not isinstance(value, dict):
                    raise UserError(f"encoding_options: a mapping of options is expected, not {value!r}")
                values[key] = {**value, **values[key]}
            else:
                values[key] = value
        if any(key.startswith("encoding.") for key in cell):
            values["encoding"] = "+".join(parts) or "nope"
        try:
            run = RunConfig(**values)
            asked = {length for one in self.objectives for length in one.lengths(run.seq_len)}
            lengths = set(run.lengths) if run.lengths is not None else set(default_lengths(run.seq_len))
            return run.model_copy(update={"lengths": tuple(sorted(lengths | asked))})
        except ValidationError as cause:
            raise UserError(f"{complaints(cause)}; in the cell {format_cell(cell)}") from cause


def _put(options: dict[str, Any], path: list[str], value: Scalar) -> None:
    for part in path[:-1]:
        options = options.setdefault(part, {})
        if not isinstance(options, dict):
            raise UserError(f"encoding_options: '{part}' is given a value, and options of its own ({'.'.join(path)})")
    options[path[-1]] = value


def _whole_encodings(key: str, values: Sequence[Scalar]) -> None:
    """Encodings per layer are one value: YAML splits what stands in a list without quotes at its commas."""
    for value in (value for value in values if isinstance(value, str)):
        if key in ENCODINGS and re.search(r":\d+$", value) and "," not in value:
            raise ValueError(
                f"space.{key}: '{value}' has a number of layers and no comma; encodings per layer stand in quotes or "
                'in a list of their own, as in "rope+window:3,nope:1" or [rope+window:3, nope:1]'
            )
        if key.startswith("encoding.") and re.search(r"[:,]", value):
            raise ValueError(f"space.{key}: a part of an encoding is the same in every layer, not '{value}'")


def _known_setting(key: str) -> None:
    head, _, tail = key.partition(".")
    if tail and head in ("encoding", "encoding_options"):
        return
    if key in NOT_IN_A_SWEEP:
        raise UserError(f"'{key}' is not a setting of a sweep: where and how runs are kept is said beside it")
    if key not in SETTINGS:
        raise unknown("setting", key, SETTINGS)


def choices(values: list[Scalar] | Range) -> list[Scalar]:
    """The values of a key of a grid."""
    return values.values() if isinstance(values, Range) else values


def read_spec(path: Path) -> SweepSpec:
    """The specification in a YAML file.

    Raises:
        UserError: with one line that names the file and the key.
    """
    document = read_yaml(path_of(path))
    if not isinstance(document, dict):
        raise UserError(f"{path}: a mapping with name, space and objective is expected")
    for key in document:
        if key not in SweepSpec.model_fields:
            raise UserError(f"{path}: {unknown('key', str(key), SweepSpec.model_fields)}")
    try:
        return SweepSpec(**document)
    except UserError as cause:
        raise UserError(f"{path}: {cause}") from cause
    except ValidationError as cause:
        # A value that is neither a list nor a range has two errors: ours says more.
        error = next((one for one in cause.errors() if one["type"] == "value_error"), cause.errors()[0])
        # Of a range also which of its keys; behind a list stands the number of the value.
        parts = [*error["loc"][:2], *(error["loc"][3:4] if "range" in error["loc"] else ())]
        where = ".".join(map(str, parts)) + ": " if parts else ""
        message = complaint(error)
        if error["type"] == "string_pattern_mismatch":
            message = f"letters, digits, '.', '_' and '-' make a name, not {error['input']!r}"
        raise UserError(f"{path}: {where}{message}") from cause
