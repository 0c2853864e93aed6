"""Options of a registered class, checked against the annotations of its constructor: a typo must not pick a formula."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from extrapo.errors import UserError, complaint


@cache
def option_adapters(cls: type) -> dict[str, TypeAdapter[Any] | None]:
    """The keyword-only arguments of a class, each with what checks its type (None where it has no annotation)."""
    hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    adapters: dict[str, TypeAdapter[Any] | None] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        try:
            adapter = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
        except (KeyError, PydanticSchemaGenerationError):
            adapter = None
        adapters[name] = adapter
    return adapters


def choices(cls: type) -> dict[str, list[str]]:
    """The words among which an option chooses, of those that do."""
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    found = {option: list(map(str, _words(hints.get(option)))) for option in option_adapters(cls)}
    return {option: words for option, words in found.items() if words}


def _words(hint: Any) -> Iterator[Any]:
    for part in get_args(hint):
        if get_origin(hint) is Literal:
            yield part
        else:
            yield from _words(part)


def check(kind: str, name: str, cls: type, options: Mapping[str, Any]) -> None:
    """Raise UserError with one line for an option that the class does not have, or a value that it does not take."""
    adapters = option_adapters(cls)
    for option, value in options.items():
        if option not in adapters:
            listed = ", ".join(adapters) or "none"
            raise UserError(f"{kind} '{name}' has no option '{option}'; its options: {listed}")
        adapter = adapters[option]
        try:
            if adapter is not None:
                adapter.validate_python(value)
        except ValidationError as cause:
            raise UserError(f"{kind} '{name}': {option} {complaint(cause.errors()[0])}") from cause
