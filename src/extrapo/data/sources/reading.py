"""Files below a folder, and their text as it is read in blocks; what cannot be read is said in a line."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from extrapo.data.document import Document, cut_at_spaces
from extrapo.data.sources.base import Split
from extrapo.errors import MachineError, UserError
from extrapo.reading import check_regular, path_of

BLOCK = 1 << 20
"""Bytes read at once."""

WHOLE = 4 << 20
"""A file up to this size is read in one piece."""

_VALIDATION = frozenset({"validation", "valid", "val", "dev"})


def walk(root: Path, skip: Callable[[str], bool]) -> list[Path]:
    """All files below `root`, ordered by relative path; `skip` prunes by the name of a file or folder.

    Links to folders are not followed, so that a loop of them ends nothing.

    Raises:
        MachineError: a folder that may not be read.
    """

    def refuse(cause: OSError) -> None:
        raise unreadable(Path(cause.filename), cause) from cause

    paths = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not skip(name)]
        paths += [Path(folder, name) for name in files if not skip(name)]
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix())


def hidden(name: str) -> bool:
    """Whether a file or a folder is left out by custom."""
    return name.startswith(".")


def text_blocks(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in blocks, without a mark of the byte order, with line ends as \\n.

    Raises:
        UserError: it is not UTF-8.
        MachineError: it may not be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    pending = ""
    try:
        with path.open("rb") as file:
            while content := file.read(BLOCK):
                text = pending + decoder.decode(content)
                # A line end of two characters may be cut in the middle.
                pending = "\r" if text.endswith("\r") else ""
                yield _line_ends(text[: len(text) - len(pending)])
            yield _line_ends(pending + decoder.decode(b"", final=True))
    except UnicodeDecodeError as cause:
        raise UserError(f"{path} is not UTF-8 text; convert it to UTF-8, or leave it out") from cause
    except OSError as cause:
        raise unreadable(path, cause) from cause


def file_document(path: Path, key: str | None = None) -> Document:
    """A whole file as one document, in pieces where it is long."""
    if file_size(path) <= WHOLE:
        return Document.of("".join(text_blocks(path)), key)
    return Document(Pieces(path), key)


class Pieces:
    """The text of a long file in pieces, read anew each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[str]:
        try:
            yield from cut_at_spaces(text_blocks(self.path))
        except ValueError as cause:
            if isinstance(cause, UserError):
                raise
            raise UserError(f"{self.path} is no text: {cause}") from cause


def lines(path: Path, longest: int) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not blank, without their ends, numbered from 1.

    Raises:
        UserError: a line of more than `longest` bytes, or not UTF-8.
        MachineError: it may not be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    raise UserError(f"{path}, line {number}: longer than {longest / 1e6:,.0f} MB")
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                except UnicodeDecodeError as cause:
                    raise UserError(f"{path}, line {number}: not UTF-8 text") from cause
                if text.strip():
                    yield number, text
    except OSError as cause:
        raise unreadable(path, cause) from cause


def file_size(path: Path) -> int:
    """Bytes of a file; MachineError where it may not be looked at, UserError where it is a pipe or a device."""
    try:
        check_regular(path)
        return path.stat().st_size
    except OSError as cause:
        raise unreadable(path, cause) from cause


def found(argument: str, suffixes: tuple[str, ...], kind: str) -> list[Path]:
    """The file, or all files below the folder, that a spec names.

    Raises:
        UserError: none is named, it is not there, or the folder has none of these suffixes.
        MachineError: what may not be read.
    """
    if not argument:
        raise UserError(f"the corpus '{kind}' needs a file or a folder: {kind}:PATH")
    path = path_of(argument)
    if os.path.isdir(path):
        files = [file for file in walk(path, hidden) if file.name.lower().endswith(suffixes)]
        if not files:
            raise UserError(f"the folder {path} holds no {kind}: no file ends in {', '.join(suffixes)}")
        return files
    if not os.path.lexists(path):
        raise UserError(f"there is no file or folder {path}")
    if os.path.islink(path) and not os.path.lexists(path.parent / os.readlink(path)):
        raise UserError(f"{path} is a link to {os.readlink(path)}, which is not there")
    file_size(path)
    return [path]


def official_splits(files: list[Path]) -> dict[Path, Split | None]:
    """Which split each file belongs to by its name, where there are some of both; files of a test split are left out.

    A name says it by a word of its own: `train-00000-of-00014.parquet`, `valid.jsonl`.
    """
    words = {file: set(re.split(r"[^a-z]+", file.name.lower())) for file in files}
    train = {file for file in files if "train" in words[file]}
    validation = {file for file in files if words[file] & _VALIDATION and file not in train}
    if not train or not validation:
        return dict.fromkeys(files)
    return {file: "train" if file in train else "validation" for file in files if file in train | validation}


def unreadable(path: Path, cause: OSError) -> MachineError:
    """What the machine says of a file."""
    return MachineError(f"cannot read {path}: {cause.strerror}")


def _line_ends(text: str) -> str:
    # Nearly no text has one, and to look is a hundred times as fast as to replace.
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
