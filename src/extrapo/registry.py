"""Name -> class, with manners: refuses duplicates, suggests near names, finds what other packages bring."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import entry_points
from types import ModuleType
from typing import Generic, TypeVar

from extrapo.errors import UserError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one kind, by name.

    Args:
        kind: the word for one of them in an error message, such as "encoding".
        group: entry-point group under which other packages announce theirs. An entry point names a class
            (registered under the entry point's name) or a module that registers classes when imported.
        check: looks at a class before it is registered, and raises what is wrong with it.
    """

    def __init__(self, kind: str, group: str, check: Callable[[str, type[T]], None] | None = None) -> None:
        self.kind = kind
        self.group = group
        self._check = check
        self._classes: dict[str, type[T]] = {}
        #: what other packages announce and cannot be loaded, by name: why, in a line.
        self.broken: dict[str, str] = {}
        self._searched = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the class known as `name` (kebab case, as the paper calls it)."""

        def add(cls: type[T]) -> type[T]:
            if name in self._classes and self._classes[name] is not cls:
                raise ValueError(f"{self.kind} '{name}' is registered twice: {self._classes[name]} and {cls}")
            if self._check is not None:
                self._check(name, cls)
            self._classes[name] = cls
            return cls

        return add

    def get(self, name: str) -> type[T]:
        """The class called `name`; raises UserError with the nearest name where there is none."""
        if name not in self._classes:
            self._search()
        if name in self.broken:
            raise UserError(self.broken[name])
        if name not in self._classes:
            raise unknown(self.kind, name, self._classes)
        return self._classes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._classes

    def names(self) -> list[str]:
        """All names, those of other packages included, sorted."""
        self._search()
        return sorted(self._classes)

    def _search(self) -> None:
        """Load what other packages announce, once; one that is broken takes nothing else down with it."""
        if self._searched:
            return
        self._searched = True
        for point in entry_points(group=self.group):
            with self.loading(point.name, point.value):
                # What it prints is no part of what a program reads.
                with redirect_stdout(sys.stderr):
                    loaded = point.load()
                if isinstance(loaded, type):
                    self.register(point.name)(loaded)
                elif not isinstance(loaded, ModuleType):
                    raise TypeError(f"a class or a module is expected, not a {type(loaded).__name__}")

    @contextmanager
    def loading(self, name: str, origin: str) -> Iterator[None]:
        """What fails within is remembered of `name`, and said in a line; all else goes on."""
        try:
            yield
        except (Exception, SystemExit) as cause:
            reason = " ".join(str(cause).split()) or type(cause).__name__
            if isinstance(cause, SystemExit):
                reason = f"it ends the program ({cause.code})"
            self.broken[name] = f"the {self.kind} '{name}' of '{origin}' is broken: {reason}"
            warnings.warn(self.broken[name], stacklevel=3)
