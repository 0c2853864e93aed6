"""What a source of text is: a list of parts, each of which reads its documents one after another."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from extrapo.data.document import Document
from extrapo.errors import UserError, unknown
from extrapo.registry import Registry

Split: TypeAlias = Literal["train", "validation"]

SPLITS: tuple[Split, Split] = ("train", "validation")


@dataclass(frozen=True)
class Part:
    """A stretch of a corpus that is read from its beginning, such as a file.

    Args:
        documents: reads them, in an order that is always the same.
        path: the file, where what was read of it holds until the file changes.
        split: where all of them belong; None where a hash decides.
        size: about how many bytes there are to read.
    """

    documents: Callable[[], Iterator[Document]]
    path: Path | None = None
    split: Split | None = None
    size: int = 0


class Source(ABC):
    """A corpus that can be read, any number of times.

    Args:
        argument: what follows the colon of the spec, "" if nothing does.
        options: what follows a question mark there, as in `jsonl:PATH?column=story`.

    Raises:
        UserError: no such text, or an unknown option.
        MachineError: what may not be read.
    """

    #: In a line, for the list of corpora.
    summary: ClassVar[str]
    #: The options that it takes, and their defaults.
    options: ClassVar[Mapping[str, str]] = {}
    #: What its colon must be followed by, as in `text:PATH`; "" where it is enough by itself.
    needs: ClassVar[str] = ""
    #: Part of the text that is held out where no split is given.
    share: float = 0.05
    #: A short name.
    name: str
    #: What it was asked for by.
    spec: str = ""
    #: What pins the text where it is not to be read for that: a data set and its revision.
    identity: str | None = None

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        self.argument = argument
        for name in options:
            if name not in self.options:
                raise (
                    unknown(f"option of '{argument}'", name, self.options)
                    if self.options
                    else UserError(f"this kind of corpus takes no option, and '{name}' was given")
                )
        self.given = {**self.options, **options}

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Its parts, in order."""

    def origin(self) -> dict[str, str]:
        """What else a manifest should say of where the text came from."""
        return {}


SOURCES: Registry[Source] = Registry("corpus", group="extrapo.corpora")


def open_source(spec: str) -> Source:
    """The source that a spec names: NAME, NAME:ARGUMENT or NAME:ARGUMENT?OPTION=VALUE&...

    Raises:
        UserError: an unknown name, and whatever the source has to say.
    """
    name, _, argument = spec.partition(":")
    cls = SOURCES.get(name)
    argument, tail = _with_options(argument)
    options = {}
    for pair in tail.split("&") if tail else ():
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise UserError(f"'{pair}' in '{spec}' is no option: write OPTION=VALUE")
        options[key] = value
    source = cls(argument, options)
    source.spec = spec
    return source


def _with_options(argument: str) -> tuple[str, str]:
    """What stands before the question mark of the options, and they; a path may have one of its own."""
    try:
        is_path = os.path.exists(argument)
    except ValueError:  # of bytes that no path has
        is_path = False
    if is_path or "?" not in argument:
        return argument, ""
    before, _, tail = argument.rpartition("?")
    return before, tail
