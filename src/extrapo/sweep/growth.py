"""A grid that grew: the cells that were there keep their numbers, the values of a setting their order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from extrapo.sweep.spec import Cell, Choices, Scalar, SweepSpec, choices

if TYPE_CHECKING:
    import optuna

#: The attributes of a study that keep its specification, and the spaces that it had before, in their order.
SPEC, EARLIER = "extrapo.plan", "extrapo.earlier_spaces"


def is_grown(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a grid has all that it had, and more: more values of the same settings."""
    if before.get("mode") != "grid" or after.get("mode") != "grid":
        return False
    small, large = before.get("space", {}), after["space"]
    if list(small) != list(large):
        return False
    return all(_texts(small[key]) <= _texts(large[key]) for key in large)


def spaces(study: optuna.Study) -> list[SweepSpec]:
    """The study's specification with each space that it had, the present one last."""
    known = study.user_attrs
    asked = known[SPEC]
    return [SweepSpec(**{**asked, "space": space}) for space in (*known.get(EARLIER, ()), asked["space"])]


def keep_space(study: optuna.Study, space: Mapping[str, Any]) -> None:
    """Remember a space that is about to be replaced; twice is once."""
    earlier = study.user_attrs.get(EARLIER, [])
    if earlier[-1:] != [space]:
        study.set_user_attr(EARLIER, [*earlier, space])


def cells_of(study: optuna.Study) -> list[Cell]:
    """The cells of a grid by their number: those of its first space, then what each later one added."""
    found: dict[str, Cell] = {}
    for spec in spaces(study):
        for cell in spec.cells():
            found.setdefault(json.dumps(cell), cell)
    return list(found.values())


def choices_of(study: optuna.Study) -> dict[str, list[Scalar]]:
    """The values of each setting, in the order in which they came: Optuna keeps a choice as its place among them."""
    specs = spaces(study)
    return {key: list(_distinct(spec.space[key] for spec in specs)) for key in specs[-1].space}


def _distinct(listed: Any) -> Iterator[Scalar]:
    seen: list[str] = []
    for values in listed:
        for value in choices(values):
            if (text := json.dumps(value)) not in seen:
                seen.append(text)
                yield value


def _texts(listed: Any) -> set[str]:
    """The values of a setting as a specification keeps them: 1 is not 1.0, and not true."""
    return {json.dumps(value) for value in choices(TypeAdapter(Choices).validate_python(listed))}
