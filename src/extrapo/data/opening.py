"""What a spec names, ready to be read: text that is prepared first, a prepared corpus, token files, or a mixture."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from extrapo.cores import cores
from extrapo.data import manifest as manifests
from extrapo.data.corpus import Corpus, open_corpus
from extrapo.data.mixture import mix, weighted
from extrapo.data.preparation import Request, look, make, recipe, text_of, training_sample
from extrapo.data.progress import Unwatched, Watcher
from extrapo.data.sources import TOKEN_FILES, kinds, open_source, written
from extrapo.data.store import (
    TOKENIZER,
    Place,
    check_name,
    home,
    keep_tokenizer,
    kept_tokenizer,
    on_disk,
    output_place,
    prepared_folder,
    read_tokenizer,
    set_name,
    short,
)
from extrapo.data.token_files import token_corpus
from extrapo.data.tokenizer import Tokenizer
from extrapo.data.vocabularies import identity, make_tokenizer
from extrapo.errors import UserError, unknown
from extrapo.reading import path_of

#: By the end of a file's name, the kind of corpus that it most likely is; text where it is none of these.
KINDS = {".jsonl": "jsonl", ".parquet": "parquet", ".bin": TOKEN_FILES}
ANY_TOKENIZER = "bpe"
"""The tokenizer that is asked for where nobody has said which: a prepared corpus then has its own."""


def prepare(
    spec: str,
    *,
    tokenizer: str = ANY_TOKENIZER,
    vocab_size: int = 4096,
    pad_vocab: int = 1,
    cache: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    output: str | None = None,
    limit_tokens: int | None = None,
    workers: int | None = None,
    watcher: Watcher = Unwatched(),  # noqa: B008
) -> Corpus:
    """Read, tokenize and store a corpus; what is stored already, and sound, is only opened.

    Text is read anew only where its files have changed. A preparation that was killed goes on where it stopped.

    Args:
        spec: a kind of corpus (see `catalogue`) as NAME:PATH?OPTION=VALUE, or a prepared one by its name or folder.
        tokenizer: `bpe` (trained on the training split), `byte`, `gpt2`, `gpt2:FOLDER`, or `file:PATH`.
            What is prepared keeps its own; another one is an error.
        vocab_size: of `bpe`, the separator included; less where the text is too small for it.
        pad_vocab: the vocabulary is filled up with ids of nothing to a multiple of this.
        cache: where the shards lie; default $EXTRAPO_CACHE, else the user's cache folder.
        say: called with a line when a step begins that takes time.
        output: a name for the corpus, or the path of a folder for it.
        limit_tokens: stop behind the document in which so many are reached.
        workers: threads that encode, no more than there are cores; None is as many.
        watcher: told how far it is.

    Raises:
        UserError: no such corpus or tokenizer, or no usable text.
        MachineError: the cache cannot be written.
    """
    if limit_tokens is not None and limit_tokens < 1:
        raise UserError(f"`limit_tokens` must be at least 1, not {limit_tokens}")
    if workers is not None and workers < 1:
        raise UserError(f"`workers` must be at least 1, not {workers}")
    if pad_vocab < 1:
        raise UserError(f"`pad_vocab` must be at least 1, not {pad_vocab}")
    root = home(cache)
    shares = weighted(spec)
    if shares is not None:
        if output is not None or limit_tokens is not None:
            raise UserError("a mixture is made of corpora as they are: prepare each of them")
        made_by = _shared_tokenizer(shares, tokenizer, vocab_size, root, say or (lambda line: None), watcher)
        parts = [
            prepare(part, tokenizer=made_by, cache=cache, say=say, workers=workers, watcher=watcher)
            for part, _ in shares
        ]
        return _padded(mix(spec, parts, [share for _, share in shares]), pad_vocab)
    folder = prepared_folder(spec, root)
    if folder is not None:
        if output is not None or limit_tokens is not None:
            raise UserError(f"'{spec}' is prepared already: give the text that it was made of")
        return _padded(_prepared(folder, spec, tokenizer, vocab_size), pad_vocab)
    if spec.partition(":")[0] == TOKEN_FILES:
        if limit_tokens is not None:
            raise UserError("`limit_tokens` is for text, and token files are taken as they are")
        corpus = token_corpus(spec, _of_token_files(tokenizer), root, watcher)
        if output is not None:
            check_name(output)
            set_name(root, output, corpus.folder)
        return _padded(corpus, pad_vocab)
    if spec.partition(":")[0] not in kinds():
        raise _unknown(spec, root)
    request = Request(spec, open_source(spec), tokenizer, vocab_size, limit_tokens, min(workers or cores(), cores()))
    # A mistake in its name is told before anything is read.
    identity(tokenizer, vocab_size, "")
    text = look(request.source, root, watcher)
    key = recipe(request, text)
    place, name = Place.in_cache(root, request.source.name, key), None
    if output is not None:
        place, name = output_place(output, root, request.source.name, key)
    corpus = make(request, text, place, key, root, say or (lambda line: None), watcher)
    if name is not None:
        set_name(root, name, place.folder)
    return _padded(corpus, pad_vocab)


def _unknown(spec: str, root: Path) -> UserError:
    """What is said of a corpus that is none; of a path, which kind reads it."""
    if spec and os.path.exists(path_of(spec)):
        kind = KINDS.get(Path(spec).suffix.lower(), "text")
        return UserError(f"unknown corpus '{spec}'; for what lies at a path, did you mean '{kind}:{spec}'?")
    return unknown("corpus", spec.partition(":")[0], [*written(), *(path.stem for path in root.glob("names/*.json"))])


def usual_name(spec: str) -> str | None:
    """The name of what is prepared from a spec, where nobody gives one; None where the spec is its name."""
    kind, _, argument = spec.partition(":")
    if kind not in kinds():
        return None
    name = Path(argument).stem if kind == TOKEN_FILES else open_source(spec).name
    name = re.sub(r"[^\w.+-]+", "-", name).strip("-.+")
    return None if not name or name in kinds() else name


def _of_token_files(tokenizer: str) -> Tokenizer:
    if tokenizer.partition(":")[0] == ANY_TOKENIZER:
        raise UserError(
            "ids say nothing of their text: name the tokenizer that made them, as `tokenizer='gpt2:FOLDER'` or "
            "`tokenizer='file:PATH'`"
        )
    return make_tokenizer(tokenizer, 0, [])


def _prepared(folder: Path, spec: str, tokenizer: str, vocab_size: int) -> Corpus:
    """A prepared corpus; UserError where it is damaged, or was made by another tokenizer than is asked for."""
    manifest = manifests.require(folder)
    wrong = manifests.check(folder, manifest)
    if wrong is not None:
        raise UserError(f"the corpus '{spec}' is damaged: {wrong}; prepare it again")
    made_by = read_tokenizer(folder, manifest)
    if made_by is None:
        raise UserError(f"the tokenizer in {folder} is not the one that the shards were made by; prepare it again")
    if tokenizer != ANY_TOKENIZER:
        identity(tokenizer, vocab_size, "")
        asked = make_tokenizer(tokenizer, vocab_size, [])
        if asked.sha256 != made_by.sha256:
            raise UserError(
                f"the corpus '{spec}' was prepared by the tokenizer {made_by.name} ({made_by.vocab_size:,} ids), which "
                f"is not {tokenizer}: prepare it with that one, or give its text"
            )
    return open_corpus(folder, manifest, made_by, spec)


def _shared_tokenizer(
    shares: list[tuple[str, float]],
    tokenizer: str,
    vocab_size: int,
    root: Path,
    say: Callable[[str], None],
    watcher: Watcher,
) -> str:
    """The spec of the tokenizer that cuts all corpora of a mixture.

    That of the first which is prepared already; else the one asked for, which, if it is to be trained, is trained on
    all of them by weight.
    """
    for spec, _ in shares:
        folder = prepared_folder(spec, root)
        if folder is not None and tokenizer == ANY_TOKENIZER:
            return f"file:{folder / TOKENIZER}"
    if tokenizer != ANY_TOKENIZER:
        return tokenizer
    if any(spec.partition(":")[0] == TOKEN_FILES for spec, _ in shares):
        _of_token_files(tokenizer)
    texts = [(text_of(open_source(spec), root, watcher), share) for spec, share in shares]
    made_by = f"mixture {identity(tokenizer, vocab_size, ' '.join(f'{one.train_sha256} {w!r}' for one, w in texts))}"
    stem = root / "tokenizers" / f"bpe-{short(made_by)}"
    kept = kept_tokenizer(stem)
    if kept is None:
        say(f"making the tokenizer '{tokenizer}'")
        samples = (training_sample(text, share) for text, share in texts)
        kept = make_tokenizer(tokenizer, vocab_size, chain.from_iterable(samples))
        with on_disk(root):
            keep_tokenizer(stem, kept)
    return f"file:{stem.with_name(f'{stem.name}-{kept.sha256[:16]}.json')}"


def _padded(corpus: Corpus, multiple: int) -> Corpus:
    if multiple == 1:
        return corpus
    return replace(corpus, tokenizer=corpus.tokenizer.padded(multiple))
