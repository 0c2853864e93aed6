"""Where text comes from: a spec such as `stdlib` or `text:PATH` becomes documents in two splits."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from extrapo.data.stories import corpus as stories
from extrapo.errors import MachineError, UserError, unknown
from extrapo.reading import check_regular, path_of

TEXT_SUFFIXES = frozenset(
    {".txt", ".text", ".md", ".rst", ".tex", ".tokens", ".raw"}
    | {".html", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".toml"}
    | {".py", ".ipynb", ".c", ".h", ".cpp", ".hpp", ".cu", ".rs", ".go", ".java", ".js", ".ts", ".sh", ".sql"}
)
"""What `text:FOLDER` reads."""

LONGEST_PIECE = 65_536
"""Characters of the longest document that a single file is cut into: about 16,000 BPE tokens."""

TEXT_SHARE = 0.05
STDLIB_SHARE = 0.08
"""Part of the text held out. The library is small: 8 % leaves 150,000 BPE tokens to score in long windows."""

_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "distutils", "turtledemo"}
    | {"encodings", "pydoc_data", "ensurepip", "__phello__", "__pycache__"}  # tables, not prose or code
)
_OF_THE_MACHINE = re.compile(r"_sysconfigdata.*|sitecustomize\.py|usercustomize\.py|config-.*")


@dataclass(frozen=True)
class Documents:
    """The texts of a corpus in two splits, in a fixed order, none of them blank."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]

    @cached_property
    def train_sha256(self) -> str:
        """Hash of the training documents, their borders included."""
        return _digest(self.train)

    @cached_property
    def sha256(self) -> str:
        """Hash of both splits."""
        return _digest([self.train_sha256, _digest(self.validation)])


@dataclass(frozen=True)
class Source:
    """A kind of corpus: `documents` takes what follows the colon of the spec ("" if nothing does)."""

    documents: Callable[[str], Documents]
    summary: str


def read_documents(spec: str) -> Documents:
    """The documents that `spec` (NAME or NAME:PATH) names.

    Raises:
        UserError: unknown name, missing path, no text in it, or a file that is not UTF-8.
        MachineError: a file that may not be read.
    """
    name, _, argument = spec.partition(":")
    if name not in SOURCES:
        raise unknown("corpus", name, SOURCES)
    documents = SOURCES[name].documents(argument)
    if not documents.train:
        raise UserError(f"the corpus '{spec}' holds no text")
    return documents


def catalogue() -> list[dict[str, str]]:
    """One {"name", "summary"} per kind of corpus."""
    return [{"name": name, "summary": source.summary} for name, source in SOURCES.items()]


def hold_out(name: str, documents: Sequence[tuple[str, str]], share: float) -> Documents:
    """Split (key, text) documents: those whose key has the smallest hash are the validation split.

    Documents are held out until they make up `share` of the characters: at least one, if there are two
    documents, and never all. The choice depends on the keys, not on the order of the documents or the place
    where they lie; both splits keep the order given. Blank documents are dropped.
    """
    documents = [(key, text) for key, text in documents if text.strip()]
    total = sum(len(text) for _, text in documents)
    by_hash = sorted(range(len(documents)), key=lambda i: sha256(documents[i][0].encode()).digest())
    held: set[int] = set()
    size = 0
    for index in by_hash[:-1]:
        if size >= share * total:
            break
        held.add(index)
        size += len(documents[index][1])
    return Documents(
        name,
        train=tuple(text for i, (_, text) in enumerate(documents) if i not in held),
        validation=tuple(text for i, (_, text) in enumerate(documents) if i in held),
    )


def cut(text: str) -> list[str]:
    """Cut one long text into documents: consecutive pieces that join to the text.

    A piece has a fortieth of the text, at most `LONGEST_PIECE` characters and at least 256, and ends at a
    blank line where its second half has one, else at the end of a line, else at a space. So a validation
    split of 5 % is a few long stretches of running text (windows of thousands of tokens see few borders), and
    a short text still has one.
    """
    size = max(256, min(LONGEST_PIECE, len(text) // 40))
    pieces = []
    start = 0
    while len(text) - start > size:
        half = start + size // 2
        cuts = ((text.rfind(mark, half, start + size), len(mark)) for mark in ("\n\n", "\n", " "))
        end = next((at + width for at, width in cuts if at >= 0), start + size)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def _stdlib(argument: str) -> Documents:
    if argument:
        raise UserError(f"the corpus 'stdlib' takes no path; for text of your own: text:{argument}")
    root = Path(sysconfig.get_paths()["stdlib"])
    documents = []
    for path in _walk(root, lambda name: name in _LEFT_OUT or bool(_OF_THE_MACHINE.fullmatch(name))):
        if path.suffix == ".py" and (text := _decoded(path)) is not None:
            documents.append((path.relative_to(root).as_posix(), text))
    if not documents:
        raise UserError(f"this Python has no library source in {root}; use text:PATH")
    return hold_out("stdlib", documents, STDLIB_SHARE)


def _text(argument: str) -> Documents:
    if not argument:
        raise UserError("the corpus 'text' needs a file or a folder: text:PATH")
    path = path_of(argument)
    if os.path.isdir(path):
        files = [p for p in _walk(path, lambda name: name.startswith(".")) if p.suffix.lower() in TEXT_SUFFIXES]
        if not files:
            raise UserError(f"the folder {path} holds no text: no file ends in .txt, .md, .py or the like")
        texts = [_content(file) for file in files]
    elif os.path.exists(path):
        texts = cut(_content(path))
    else:
        raise UserError(f"there is no file or folder {path}")
    return hold_out(path.resolve().stem, [(text, text) for text in texts], TEXT_SHARE)


def _wikitext_2(argument: str) -> Documents:
    if argument:
        places = [path_of(argument)]
    else:
        home = os.environ.get("EXTRAPO_DATA")
        places = [Path(folder) / "wikitext-2" for folder in (home, "data") if folder]

    def split(name: str) -> tuple[str, ...]:
        for place in places:
            for file in (f"{name}.txt", f"wiki.{name}.tokens", f"wiki.{name}.raw"):
                if (place / file).is_file():
                    return tuple(_articles(_content(place / file)))
        looked = " or ".join(str(place) for place in places)
        raise UserError(
            f"wikitext-2 has no {name}.txt, wiki.{name}.tokens or wiki.{name}.raw in {looked}; "
            "name its folder as wikitext-2:PATH, or set EXTRAPO_DATA to the folder above it"
        )

    return Documents("wikitext-2", train=split("train"), validation=split("valid"))


def _stories(argument: str) -> Documents:
    train, validation = stories.splits(argument)
    return Documents("stories", tuple(one.text for one in train), tuple(one.text for one in validation))


SOURCES: dict[str, Source] = {
    "stdlib": Source(_stdlib, "the source of Python's standard library, a document per file; needs no download"),
    "text": Source(
        _text,
        "text:PATH, a UTF-8 file (cut into long pieces) or a folder of text files (a document per file)",
    ),
    "wikitext-2": Source(
        _wikitext_2,
        "WikiText-2, official splits, a document per article; from $EXTRAPO_DATA, ./data, or wikitext-2:PATH",
    ),
    "stories": Source(
        _stories,
        "stories:PRESET,words=N,seed=N, told here from a seed: tiny-stories-like, long-stories and others",
    ),
}


def _articles(text: str) -> Iterator[str]:
    """Cut at the titles ` = Title = ` that stand between blank lines (sections are ` = = Section = = `)."""
    titles = re.finditer(r"(?m)^ ?\n(?= ?= [^=\n]+ = ?\n ?$)", text)
    borders = [0, *(title.end() for title in titles), len(text)]
    for start, end in pairwise(borders):
        if text[start:end].strip():
            yield text[start:end]


def _walk(root: Path, skip: Callable[[str], bool]) -> list[Path]:
    """All files below `root`, ordered by relative path; `skip` prunes by the name of a file or folder."""

    def refuse(cause: OSError) -> None:
        raise _unreadable(Path(cause.filename), cause) from cause

    paths = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not skip(name)]
        paths += [Path(folder, name) for name in files if not skip(name)]
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix())


def _content(path: Path) -> str:
    text = _decoded(path)
    if text is None:
        raise UserError(f"{path} is not UTF-8 text; convert it to UTF-8, or leave it out")
    return text


def _decoded(path: Path) -> str | None:
    """The file's text with line ends as \\n, or None if it is not UTF-8."""
    try:
        check_regular(path)
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None
    except OSError as cause:
        raise _unreadable(path, cause) from cause


def _unreadable(path: Path, cause: OSError) -> MachineError:
    return MachineError(f"cannot read {path}: {cause.strerror}")


def _digest(parts: Iterable[str]) -> str:
    total = sha256()
    for part in parts:
        content = part.encode()
        # The length first, so that moving a border between documents changes the hash.
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()
