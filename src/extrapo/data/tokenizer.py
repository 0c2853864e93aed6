"""Text to token ids and back without loss: byte-level BPE trained here, plain bytes, or GPT-2's own BPE."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError, unknown
from extrapo.reading import path_of

if TYPE_CHECKING:
    import tokenizers

NAMES = ("bpe", "byte", "gpt2", "file")

TRAINING_CHARACTERS = 32_000_000
"""The most text that BPE is trained on (about 7 s on two cores); of more, documents evenly spaced."""

_BYTES = 256


class Tokenizer(ABC):
    """A vocabulary. Any `str` that UTF-8 can hold decodes back to itself.

    Attributes:
        name: the family: bpe, byte or gpt2.
        vocab_size: number of ids, the separator's included.
        separator: id that stands before every document; no text encodes to it.
    """

    name: str
    vocab_size: int
    separator: int

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without separators."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of every text, on all cores where the tokenizer can."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; separators are left out, broken UTF-8 becomes U+FFFD."""

    @abstractmethod
    def token_bytes(self) -> NDArray[np.int64]:
        """(V,) how many bytes of UTF-8 each id stands for; 0 for the separator and for ids of nothing."""

    @abstractmethod
    def to_json(self) -> str:
        """All of the tokenizer as one JSON document: what `load` and `from_json` read."""

    @cached_property
    def sha256(self) -> str:
        """Hash of `to_json()`: equal for tokenizers that encode equally."""
        return sha256(self.to_json().encode()).hexdigest()

    @staticmethod
    def from_json(document: str) -> Tokenizer:
        """The tokenizer that `to_json` wrote; ValueError or KeyError if it is none."""
        content = json.loads(document)
        if content["name"] == "byte":
            return ByteTokenizer()
        import tokenizers

        model = tokenizers.Tokenizer.from_str(json.dumps(content["model"]))
        return BPETokenizer(content["name"], model, content["separator"])

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """Read a tokenizer file; UserError if there is none or it is damaged."""
        try:
            return Tokenizer.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as cause:
            raise UserError(f"cannot read the tokenizer {path}: {cause.strerror}") from cause
        # The library raises a bare Exception for a model that it cannot read.
        except Exception as cause:
            raise UserError(f"{path} is not a tokenizer file: {cause}") from cause


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, and the separator."""

    name = "byte"
    vocab_size = _BYTES + 1
    separator = _BYTES

    def encode(self, text: str) -> list[int]:
        """The bytes of `text` in UTF-8."""
        return list(text.encode())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The bytes of every text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the bytes among `ids`."""
        return bytes(i for i in ids if i < _BYTES).decode(errors="replace")

    def token_bytes(self) -> NDArray[np.int64]:
        """1 for each byte."""
        return (np.arange(self.vocab_size) < _BYTES).astype(np.int64)

    def to_json(self) -> str:
        """Its name: there is nothing more to know."""
        return json.dumps({"name": self.name})


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding (Radford et al., 2019), computed by the `tokenizers` library."""

    def __init__(self, name: str, model: tokenizers.Tokenizer, separator: int) -> None:
        self.name = name
        self.separator = separator
        self.vocab_size = max(model.get_vocab_size(), separator + 1)
        self._model = model

    def encode(self, text: str) -> list[int]:
        """The ids of `text`."""
        return list(self._model.encode(text).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of every text, on all cores."""
        return [encoding.ids for encoding in self._model.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; ids of no piece are left out."""
        return str(self._model.decode([i for i in ids if i != self.separator]))

    def token_bytes(self) -> NDArray[np.int64]:
        """The length of each piece: a byte-level vocabulary spells each byte as one character."""
        pieces = (self._model.id_to_token(i) for i in range(self.vocab_size))
        sizes = np.array([len(piece or "") for piece in pieces], dtype=np.int64)
        sizes[self.separator] = 0
        return sizes

    def to_json(self) -> str:
        """Name, separator and the library's own JSON."""
        model = json.loads(self._model.to_str())
        return json.dumps({"name": self.name, "separator": self.separator, "model": model})


def identity(spec: str, vocab_size: int, train_sha256: str) -> str:
    """What decides the tokenizer of `spec`, as a string: equal strings, equal tokenizers.

    Raises:
        UserError: unknown spec, a BPE vocabulary below 257, or no files of GPT-2 where it says.
    """
    name, _, path = spec.partition(":")
    if name not in NAMES:
        raise unknown("tokenizer", name, NAMES)
    if (name in ("gpt2", "file")) != bool(path):
        raise UserError(f"the tokenizer '{spec}' is not complete; write bpe, byte, gpt2:FOLDER or file:PATH")
    if name == "byte":
        return "byte"
    if name == "file":
        return f"file {Tokenizer.load(path).sha256}"
    if name == "gpt2":
        return " ".join(["gpt2", *(sha256(file.read_bytes()).hexdigest() for file in _gpt2_files(path))])
    if vocab_size <= _BYTES:
        raise UserError(f"a BPE vocabulary needs at least {_BYTES + 1} entries, not {vocab_size}; or take 'byte'")
    import tokenizers

    return f"bpe {vocab_size} {TRAINING_CHARACTERS} {tokenizers.__version__} {train_sha256}"


def make_tokenizer(spec: str, vocab_size: int, texts: Sequence[str]) -> Tokenizer:
    """Make the tokenizer of `spec`; only `bpe` looks at `vocab_size` and is trained, on `texts`.

    A text too small for `vocab_size` gives the vocabulary that it has merges for. Raises as `identity`.
    """
    identity(spec, vocab_size, "")
    name, _, path = spec.partition(":")
    if name == "byte":
        return ByteTokenizer()
    if name == "file":
        return Tokenizer.load(path)
    from tokenizers import models, pre_tokenizers, trainers

    if name == "gpt2":
        vocabulary, merges = _gpt2_files(path)
        try:
            model = _byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
        # A bare Exception, again.
        except Exception as cause:
            raise UserError(f"{vocabulary.parent} does not hold a byte-pair encoding: {cause}") from cause
        separator = model.token_to_id("<|endoftext|>")
        if separator is None:
            raise UserError(f"{vocabulary} is not GPT-2's vocabulary: it lacks <|endoftext|>")
        return BPETokenizer(name, model, separator)
    model = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(_sample(texts), trainer)
    # The separator is an id behind the vocabulary, not a string in it: a text cannot spell it.
    return BPETokenizer(name, model, separator=model.get_vocab_size())


def _byte_level(bpe: tokenizers.models.BPE) -> tokenizers.Tokenizer:
    import tokenizers

    model = tokenizers.Tokenizer(bpe)
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    return model


def _gpt2_files(folder: str) -> tuple[Path, Path]:
    root = path_of(folder)
    for vocabulary, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if (root / vocabulary).is_file() and (root / merges).is_file():
            return root / vocabulary, root / merges
    raise UserError(f"GPT-2's encoder.json and vocab.bpe (or vocab.json and merges.txt) are not in {root}")


def _sample(texts: Sequence[str]) -> Iterator[str]:
    """At most `TRAINING_CHARACTERS` of the texts."""
    stride = max(1, -(-sum(map(len, texts)) // TRAINING_CHARACTERS))
    room = TRAINING_CHARACTERS
    for text in texts[::stride]:
        if room <= 0:
            return
        yield text[:room]
        room -= len(text)
