"""WikiText (Merity et al., 2016, arXiv:1609.07843): articles of Wikipedia, with official splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from extrapo.data.document import Document
from extrapo.data.sources.base import SOURCES, Part, Source, Split
from extrapo.data.sources.huggingface import Pinned
from extrapo.data.sources.reading import file_size, text_blocks
from extrapo.data.sources.text import data_folders
from extrapo.errors import UserError
from extrapo.reading import path_of

#: An article's title stands between blank lines: ` = Title = `; sections are ` = = Section = = `.
_TITLE = re.compile(r" ?= [^=\n]+ = ?\n")
_BLANK = ("\n", " \n")
_FILES: tuple[tuple[str, Split], ...] = (("train", "train"), ("valid", "validation"))


class WikiText(Source):
    """A size of WikiText, from a folder of its files or from the hub."""

    config: ClassVar[str]

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        places = [path_of(argument)] if argument else data_folders(self.name)
        self.files: list[tuple[Path, Split]] = []
        missing: list[str] = []
        for word, split in _FILES:
            names = (f"{word}.txt", f"wiki.{word}.tokens", f"wiki.{word}.raw")
            file = next((place / name for place in places for name in names if (place / name).is_file()), None)
            if file is None:
                missing.append(word)
            else:
                self.files.append((file, split))
        self.hub = Pinned("Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3", self.config)
        if missing and (argument or self.files or not self.hub.installed()):
            word, looked = missing[0], " or ".join(map(str, places))
            raise UserError(
                f"{self.name} has no {word}.txt, wiki.{word}.tokens or wiki.{word}.raw in {looked}; "
                f"name its folder as {self.name}:PATH, set EXTRAPO_DATA to the folder above it, "
                "or install extrapo[data] to have it downloaded"
            )
        if missing:
            self.identity = self.hub.identity

    def parts(self) -> Sequence[Part]:
        if self.identity is None:
            return [Part(partial(_of_file, file), file, split, file_size(file)) for file, split in self.files]
        return [Part(partial(_of_hub, self.hub, name), None, split) for name, split in self.hub.splits()]

    def origin(self) -> dict[str, str]:
        return {} if self.identity is None else self.hub.origin


@SOURCES.register("wikitext-2")
class WikiText2(WikiText):
    """`wikitext-2`."""

    summary = "WikiText-2, official splits, a document per article; from $EXTRAPO_DATA, ./data, or wikitext-2:PATH"
    name, config = "wikitext-2", "wikitext-2-v1"


@SOURCES.register("wikitext-103")
class WikiText103(WikiText):
    """`wikitext-103`."""

    summary = "WikiText-103, as wikitext-2; else from the Hugging Face hub, its raw text"
    name, config = "wikitext-103", "wikitext-103-raw-v1"


def _of_file(path: Path) -> Iterator[Document]:
    return map(Document.of, articles(text_blocks(path)))


def _of_hub(hub: Pinned, split: str) -> Iterator[Document]:
    # A row is a line, whose end is left out where there is nothing else.
    return map(Document.of, articles(row or "\n" for row in hub.texts(split, "text")))


def articles(blocks: Iterable[str]) -> Iterator[str]:
    """Cut a text, given in blocks, at its titles: a line ` = Title = ` after a blank one and before a blank one."""
    held: list[str] = []
    for line, after in _with_next(_lines(blocks)):
        if held and held[-1] in _BLANK and _TITLE.fullmatch(line) and after in ("", " ", *_BLANK):
            yield "".join(held)
            held = []
        held.append(line)
    yield "".join(held)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    rest = ""
    for block in blocks:
        *whole, rest = (rest + block).split("\n")
        yield from (f"{line}\n" for line in whole)
    if rest:
        yield rest


def _with_next(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    before: str | None = None
    for line in lines:
        if before is not None:
            yield before, line
        before = line
    if before is not None:
        yield before, ""
