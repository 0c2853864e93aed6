"""The source of Python's standard library: a text that every machine has."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source
from extrapo.data.sources.reading import file_document, walk
from extrapo.errors import UserError

_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "distutils", "turtledemo"}
    | {"encodings", "pydoc_data", "ensurepip", "__phello__", "__pycache__"}  # tables, not prose or code
)
_OF_THE_MACHINE = re.compile(r"_sysconfigdata.*|sitecustomize\.py|usercustomize\.py|config-.*")


@SOURCES.register("stdlib")
class Stdlib(Source):
    """`stdlib`."""

    summary = "the source of Python's standard library, a document per file; needs no download"
    #: The library is small: 8 % leaves 150,000 BPE tokens to score in long windows.
    share = 0.08
    name = "stdlib"

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        if argument:
            raise UserError(f"the corpus 'stdlib' takes no path; for text of your own: text:{argument}")
        self.root = Path(sysconfig.get_paths()["stdlib"])
        files = walk(self.root, lambda name: name in _LEFT_OUT or bool(_OF_THE_MACHINE.fullmatch(name)))
        self.files = [file for file in files if file.suffix == ".py"]
        if not self.files:
            raise UserError(f"this Python has no library source in {self.root}; use text:PATH")

    def parts(self) -> Sequence[Part]:
        return [Part(partial(self._documents, file), file, size=file.stat().st_size) for file in self.files]

    def _documents(self, file: Path) -> Iterator[Document]:
        try:
            yield file_document(file, key=file.relative_to(self.root).as_posix())
        except UserError:
            return  # Some tests of the parser's are not UTF-8.
