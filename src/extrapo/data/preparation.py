"""From text to shards: what is there already is opened, what was begun goes on, the rest is encoded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from extrapo.data import manifest as manifests
from extrapo.data.corpus import Corpus, open_corpus
from extrapo.data.document import PIECE, Document, digests
from extrapo.data.encoding import Job, Stretch, encode, encode_all, jobs, one_by_one
from extrapo.data.progress import Unwatched, Watcher
from extrapo.data.scan import Scan, scan
from extrapo.data.sources import Part, Source, Split
from extrapo.data.split import below_share
from extrapo.data.store import (
    TOKENIZER,
    Place,
    keep_tokenizer,
    kept_tokenizer,
    on_disk,
    read_tokenizer,
    short,
)
from extrapo.data.tokenizer import Tokenizer
from extrapo.data.vocabularies import TRAINING_CHARACTERS, identity, make_tokenizer, sample, stride
from extrapo.data.writer import JOURNAL, ShardWriter
from extrapo.errors import MachineError, UserError
from extrapo.files import locked, write_text

LONGEST_WHOLE = 64_000_000
"""Characters of the longest document for a tokenizer that has to see it whole."""


@dataclass(frozen=True)
class Request:
    """What is to be prepared.

    Args:
        spec: as it was asked for.
        source: the text.
        tokenizer: spec of the tokenizer.
        vocab_size: of one that is trained.
        limit_tokens: stop behind the document in which so many are reached; None is all.
        workers: threads that encode.
    """

    spec: str
    source: Source
    tokenizer: str
    vocab_size: int
    limit_tokens: int | None = None
    workers: int = 1


@dataclass(frozen=True)
class Text:
    """A source, its parts, and what is known of them: the scan, or the hash of what pins it."""

    source: Source
    parts: Sequence[Part]
    scan: Scan | None

    @property
    def train_sha256(self) -> str:
        """What the training split depends on."""
        return self.sha256 if self.scan is None else self.scan.train_sha256

    @property
    def sha256(self) -> str:
        """Hash of both splits."""
        return sha256(str(self.source.identity).encode()).hexdigest() if self.scan is None else self.scan.sha256

    def held_out(self, number: int, part: Part, document: Document) -> bool:
        """Whether a document is validation, by its number among those that are not blank."""
        if self.scan is not None:
            return bool(self.scan.validation[number])
        if part.split is not None:
            return part.split == "validation"
        return below_share(digests(document)[0], self.source.share)

    def first_number(self, part: int) -> int:
        """The number of the first document of a part."""
        return 0 if self.scan is None else sum(self.scan.sizes[:part])


def look(source: Source, root: Path | None, watcher: Watcher) -> Text:
    """Read a source once, as far as it has changed, unless something pins it; without a root nothing is remembered.

    Raises:
        UserError: no text in it.
    """
    if source.identity is not None:
        # Its parts are only asked for where it has to be read: that may need a network.
        return Text(source, (), None)
    parts = source.parts()
    read = 0

    def tell(size: int) -> None:
        nonlocal read
        read += size
        watcher.progress(read, 0)

    watcher.step(f"reading {source.name}", sum(part.size for part in parts))
    content = json.dumps([source.name, [str(part.path) for part in parts], source.given])
    kept = None if root is None else root / "scans" / f"{short(content)}.npz"
    found = scan(parts, source.share, kept, tell)
    if found.validation.all():
        raise UserError(f"the corpus '{source.spec}' holds no text")
    return Text(source, parts, found)


def text_of(source: Source, root: Path, watcher: Watcher) -> Text:
    """A source with its parts, whether or not it has to be read for that."""
    text = look(source, root, watcher)
    return text if text.parts else Text(source, source.parts(), None)


def stored(place: Place, spec: str) -> Corpus | None:
    """The corpus that lies at a place, or None if any of it is missing, cut short or damaged."""
    manifest = manifests.read_manifest(place.folder)
    if manifest is None or manifests.check(place.folder, manifest) is not None:
        return None
    tokenizer = read_tokenizer(place.folder, manifest)
    return None if tokenizer is None else open_corpus(place.folder, manifest, tokenizer, spec)


def recipe(request: Request, text: Text) -> str:
    """What decides a corpus: equal strings, equal shards."""
    made_by = identity(request.tokenizer, request.vocab_size, text.train_sha256)
    return f"{manifests.FORMAT} {text.sha256} {made_by} {request.limit_tokens or ''}".strip()


def make(
    request: Request, text: Text, place: Place, key: str, root: Path, say: Callable[[str], None], watcher: Watcher
) -> Corpus:
    """The corpus at its place: opened where it is there, made where it is not, by one process at a time.

    Raises:
        UserError: a text that changes while it is read, or no text in it.
        MachineError: the disk.
    """
    content = content_of(request, text)
    corpus = opened(place, key, content, request.spec)
    if corpus is None:
        with on_disk(root), locked(place.lock):
            corpus = opened(place, key, content, request.spec)
            if corpus is None:
                _make(request, text, place, key, root, say, watcher)
                corpus = opened(place, key, content, request.spec)
    if corpus is None:
        raise MachineError(f"what was written to {place.folder} does not read back; set EXTRAPO_CACHE to another disk")
    return corpus


def content_of(request: Request, text: Text) -> str:
    """Hash of what a corpus holds of a text."""
    limit = request.limit_tokens
    return text.sha256 if limit is None else sha256(f"{text.sha256} {limit}".encode()).hexdigest()


def opened(place: Place, key: str, content: str, spec: str) -> Corpus | None:
    """What lies at a place, if it was made for this key, and says so of its text."""
    corpus = stored(place, spec)
    return (
        corpus if corpus is not None and (corpus.manifest["recipe"], corpus.sha256) == (short(key), content) else None
    )


def _make(
    request: Request, text: Text, place: Place, key: str, root: Path, say: Callable[[str], None], watcher: Watcher
) -> None:
    done = manifests.read_manifest(place.work)
    if done is None or done["recipe"] != short(key):
        _write(
            request,
            text_of(request.source, root, Unwatched()) if text.scan is None else text,
            place.work,
            key,
            root,
            say,
            watcher,
        )
    (place.work / JOURNAL).unlink(missing_ok=True)
    if place.folder.exists():
        shutil.rmtree(place.folder)
    place.folder.parent.mkdir(parents=True, exist_ok=True)
    os.rename(place.work, place.folder)


def _write(
    request: Request, text: Text, work: Path, key: str, root: Path, say: Callable[[str], None], watcher: Watcher
) -> None:
    name = request.source.name
    tokenizer = _tokenizer(request, text, root, say)
    dtype = "<u2" if tokenizer.vocab_size <= 65_535 else "<u4"
    writer = ShardWriter(work, short(key), dtype)
    write_text(work / TOKENIZER, tokenizer.to_json())
    count = "" if text.scan is None else f": {len(text.scan.validation):,} documents"
    say(f"tokenizing {name}{count}" + (f", {writer.tokens:,} tokens are there already" if writer.tokens else ""))
    limit = request.limit_tokens
    characters = 0 if text.scan is None else int(text.scan.rows["characters"].sum())
    watcher.step(f"tokenizing {name}", characters)
    begun = jobs(stretches(text, tokenizer, writer.part, writer.done), writer.part, writer.done)
    if limit is None or writer.tokens < limit:
        with closing(encode_all(begun, tokenizer, dtype, request.workers)) as results:
            for job, encoded in results:
                if limit is not None and writer.tokens + sum(len(one.ids) for one in encoded.values()) >= limit:
                    _append_up_to(limit, job, tokenizer, writer)
                    break
                writer.append(encoded, job.part, job.done)
                watcher.progress(writer.text_bytes, writer.tokens)
    splits = writer.finish()
    if not splits["train"]["tokens"]:
        shutil.rmtree(work)
        raise UserError(f"the corpus '{request.spec}' holds no text")
    manifest: dict[str, Any] = {
        "format": manifests.FORMAT,
        "corpus": name,
        "spec": request.spec,
        "recipe": short(key),
        "sha256": content_of(request, text),
        "tokenizer": {
            "name": tokenizer.name,
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "separator": tokenizer.separator,
            "spec": request.tokenizer,
        },
        "source": request.source.origin(),
        "limit_tokens": limit,
        "dtype": dtype,
        "splits": splits,
    }
    if tokenizer.name == "bpe":
        manifest["tokenizer"]["trained_on"] = _statement(text)
    # Last: a folder without a manifest is not yet a corpus.
    write_text(work / manifests.NAME, json.dumps(manifest, indent=2))


def _tokenizer(request: Request, text: Text, root: Path, say: Callable[[str], None]) -> Tokenizer:
    """The tokenizer that is asked for; one that has to be trained is kept."""
    if request.tokenizer != "bpe":
        return make_tokenizer(request.tokenizer, request.vocab_size, ())
    made_by = identity(request.tokenizer, request.vocab_size, text.train_sha256)
    stem = root / "tokenizers" / f"bpe-{short(made_by)}"
    tokenizer = kept_tokenizer(stem)
    if tokenizer is None:
        say(f"making the tokenizer '{request.tokenizer}'")
        tokenizer = make_tokenizer(request.tokenizer, request.vocab_size, training_sample(text))
        keep_tokenizer(stem, tokenizer)
    return tokenizer


def _append_up_to(limit: int, job: Job, tokenizer: Tokenizer, writer: ShardWriter) -> None:
    for one in one_by_one(job):
        writer.append(encode(one, tokenizer, writer.dtype), one.part, one.done)
        if writer.tokens >= limit:
            return


def training_sample(text: Text, share: float = 1.0) -> Iterator[str]:
    """The training documents, or some of them, that BPE is trained on: a share of `TRAINING_CHARACTERS`."""
    room = int(share * TRAINING_CHARACTERS)
    every = 1 if text.scan is None else stride(text.scan.train_characters, room)
    return sample(_training_texts(text), every, room)


def _statement(text: Text) -> str:
    if text.scan is None:
        return f"the first {TRAINING_CHARACTERS:,} characters of the training split"
    every = stride(text.scan.train_characters)
    if every == 1:
        return "the training split"
    return f"every {every}th training document, {TRAINING_CHARACTERS:,} characters"


def _training_texts(text: Text) -> Iterator[str]:
    for number, _, part, document in documents(text):
        if not text.held_out(number, part, document):
            yield "".join(document.pieces)


def documents(text: Text, first: int = 0) -> Iterator[tuple[int, int, Part, Document]]:
    """(number, part's number, part, document) of those that are not blank, from a part on."""
    number = text.first_number(first)
    for at in range(first, len(text.parts)):
        part, begin = text.parts[at], number
        for document in part.documents():
            if all(not piece.strip() for piece in document.pieces):
                continue
            if text.scan is not None and number - begin >= text.scan.sizes[at]:
                raise UserError(f"{part.path or text.source.name} has changed while it was read: try again")
            yield number, at, part, document
            number += 1
        if text.scan is not None and number - begin != text.scan.sizes[at]:
            raise UserError(f"{part.path or text.source.name} has changed while it was read: try again")


def stretches(text: Text, tokenizer: Tokenizer, part: int = 0, done: int = 0) -> Iterator[tuple[int, Stretch]]:
    """What there is to encode, with the number of the part that it comes from, behind `done` stretches of `part`.

    Raises:
        UserError: a long document, and a tokenizer that would cut it otherwise in pieces.
    """
    passed = 0
    for number, at, one, document in documents(text, part):
        split: Split = "validation" if text.held_out(number, one, document) else "train"
        for begins, piece in _pieces(document, tokenizer):
            if at == part and passed < done:
                passed += 1
                continue
            yield at, Stretch(piece, begins, split, document.annotations)


def _pieces(document: Document, tokenizer: Tokenizer) -> Iterator[tuple[bool, str]]:
    if tokenizer.whole_at_spaces:
        yield from ((not number, piece) for number, piece in enumerate(document.pieces))
        return
    text = ""
    for piece in document.pieces:
        text += piece
        if len(text) > LONGEST_WHOLE:
            raise UserError(
                f"a document of more than {LONGEST_WHOLE / PIECE:,.0f} million characters, which this tokenizer would "
                "have to see whole: cut it, or take a tokenizer with GPT-2's words"
            )
    yield True, text
