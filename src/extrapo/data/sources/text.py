"""Text files: one that is cut into long pieces, or a folder with a document per file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source
from extrapo.data.sources.reading import file_document, file_size, found, hidden, text_blocks, walk
from extrapo.errors import UserError
from extrapo.reading import path_of

TEXT_SUFFIXES = frozenset(
    {".txt", ".text", ".md", ".rst", ".tex", ".tokens", ".raw"}
    | {".html", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".toml"}
    | {".py", ".ipynb", ".c", ".h", ".cpp", ".hpp", ".cu", ".rs", ".go", ".java", ".js", ".ts", ".sh", ".sql"}
)
"""What `text:FOLDER` reads."""

LONGEST = 65_536
"""Characters of the longest document that a single file is cut into: about 16,000 BPE tokens."""

PER_FILE = 40
"""Documents that a short file is cut into."""


@SOURCES.register("text")
class Text(Source):
    """`text:PATH`."""

    needs = "PATH"
    summary = "text:PATH, a UTF-8 file (cut into long pieces) or a folder of text files (a document per file)"

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        path = path_of(argument)
        self.is_folder = bool(argument) and os.path.isdir(path)
        if self.is_folder:
            self.files = [p for p in walk(path, hidden) if p.suffix.lower() in TEXT_SUFFIXES]
            if not self.files:
                raise UserError(f"the folder {path} holds no text: no file ends in .txt, .md, .py or the like")
        else:
            self.files = found(argument, (), "text")
        self.name = path.resolve().stem

    def parts(self) -> Sequence[Part]:
        read = whole if self.is_folder else in_pieces
        return [Part(partial(read, file), file, size=file_size(file)) for file in self.files]


@SOURCES.register("books")
class Books(Text):
    """`books:FOLDER`."""

    needs = ""
    summary = "books:FOLDER, whole books, a document per file; without a folder, books in $EXTRAPO_DATA or ./data"

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument or str(data_folder("books", "a folder of books")), options)
        if not self.is_folder:
            raise UserError(f"books are the files of a folder, and {argument} is none")


def data_folder(name: str, what: str) -> Path:
    """The folder of a corpus below $EXTRAPO_DATA or ./data; UserError where neither has one."""
    places = data_folders(name)
    for place in places:
        if place.is_dir():
            return place
    looked = " or ".join(map(str, places))
    raise UserError(f"there is not {what} in {looked}; write {name}:FOLDER, or set EXTRAPO_DATA to the folder above it")


def data_folders(name: str) -> list[Path]:
    """Where a corpus is looked for."""
    return [path_of(folder) / name for folder in (os.environ.get("EXTRAPO_DATA"), "data") if folder]


def whole(path: Path) -> Iterator[Document]:
    """A file as a document."""
    yield file_document(path)


def in_pieces(path: Path) -> Iterator[Document]:
    """A file as the documents that `cut` makes of it."""
    # A character has at most four bytes: of a long file the length of its pieces is known before it is read.
    if file_size(path) > 4 * PER_FILE * LONGEST:
        pieces = _cut(text_blocks(path), LONGEST)
    else:
        pieces = iter(cut("".join(text_blocks(path))))
    for piece in pieces:
        yield Document.of(piece)


def cut(text: str) -> list[str]:
    """Cut one long text into documents: consecutive pieces that join to the text.

    A piece has a fortieth of the text, at most `LONGEST` characters and at least 256, and ends at a
    blank line where its second half has one, else at the end of a line, else at a space. So a validation
    split of 5 % is a few long stretches of running text (windows of thousands of tokens see few borders), and
    a short text still has one.
    """
    return list(_cut([text], max(256, min(LONGEST, len(text) // PER_FILE))))


def _cut(blocks: Sequence[str] | Iterator[str], size: int) -> Iterator[str]:
    rest, start = "", 0
    for block in blocks:
        rest, start = rest[start:] + block, 0
        while len(rest) - start > size:
            half = start + size // 2
            cuts = ((rest.rfind(mark, half, start + size), len(mark)) for mark in ("\n\n", "\n", " "))
            end = next((at + width for at, width in cuts if at >= 0), start + size)
            yield rest[start:end]
            start = end
    yield rest[start:]
