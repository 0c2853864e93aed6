"""Text to token ids and back without loss: plain bytes, byte-level BPE, or any model of the `tokenizers` library."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError
from extrapo.reading import check_regular

if TYPE_CHECKING:
    import tokenizers

_BYTES = 256

#: As a tokenizer has them at hand.
Ids: TypeAlias = list[int] | NDArray[np.uint8]


class Tokenizer(ABC):
    """A vocabulary. Any `str` that UTF-8 can hold decodes back to itself.

    Attributes:
        name: the family: bpe, byte, gpt2, or that of a file.
        vocab_size: number of ids, the separator's and those of padding included.
        separator: id that stands before every document; no text encodes to it.
        whole_at_spaces: a text cut where a word ends before a space, or a line, has the ids of the whole.
    """

    name: str
    vocab_size: int
    separator: int
    whole_at_spaces = True

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without separators."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of every text, on all cores where the tokenizer can."""

    @abstractmethod
    def encode_with_places(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        """The ids of `text`, and the (tokens + 1,) character at which each begins; the last is the text's length."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; separators are left out, broken UTF-8 becomes U+FFFD."""

    @abstractmethod
    def token_bytes(self) -> NDArray[np.int64]:
        """(V,) how many bytes of UTF-8 each id stands for; 0 for the separator and for ids of nothing."""

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """What there is to know of it but its padding, as plain values."""

    @cached_property
    def _document(self) -> str:
        # Megabytes, of which a preparation asks several times.
        return json.dumps(self._content())

    def to_json(self) -> str:
        """All of the tokenizer as one JSON document: what `load` and `from_json` read."""
        return self._document[:-1] + f', "padded": {self.vocab_size}}}' if self._is_padded else self._document

    @cached_property
    def sha256(self) -> str:
        """Hash of all but the padding: equal for tokenizers that encode equally."""
        return sha256(self._document.encode()).hexdigest()

    _is_padded = False

    def padded(self, multiple: int) -> Tokenizer:
        """The same, with ids of nothing behind its own, so that their number is a multiple (of 64: fast on GPUs)."""
        return self._padded_to(-(-self.vocab_size // multiple) * multiple)

    def _padded_to(self, size: int) -> Tokenizer:
        if size == self.vocab_size:
            return self
        twin = copy(self)
        twin.vocab_size, twin._is_padded = size, True
        return twin

    @staticmethod
    def from_json(document: str) -> Tokenizer:
        """The tokenizer that `to_json` wrote, or one of the `tokenizers` library; ValueError or KeyError if neither."""
        content = json.loads(document)
        if "model" in content and "name" not in content:
            return BPETokenizer.of_library(document)
        if content["name"] == "byte":
            return _filled(ByteTokenizer(), content)
        import tokenizers

        model = tokenizers.Tokenizer.from_str(json.dumps(content["model"]))
        name, separator = content["name"], content["separator"]
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError(f"'name' is a text of one line, not {name!r}")
        if not _is_count(separator):
            raise ValueError(f"'separator' is an id from 0 to {MOST_IDS:,}, not {separator!r}")
        return _filled(BPETokenizer(name, model, separator), content)

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """Read a tokenizer file; UserError if there is none or it is damaged."""
        try:
            # A device would be read for ever.
            check_regular(Path(path))
            made = Tokenizer.from_json(Path(path).read_text(encoding="utf-8"))
            # A vocabulary that lacks what it falls back on is sound until a text needs that.
            made.encode("a \x00\u00e9")
            return made
        except OSError as cause:
            raise UserError(f"cannot read the tokenizer {path}: {cause.strerror}") from cause
        except UserError:
            raise
        except KeyError as cause:
            raise UserError(f"{path} is not a tokenizer file: it has no {cause}") from cause
        # The library raises a bare Exception for a model that it cannot read.
        except Exception as cause:
            raise UserError(f"{path} is not a tokenizer file: {cause}") from cause


#: No vocabulary has more ids: 2^24, as the settings of a model say.
MOST_IDS = 1 << 24


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_IDS


def _filled(made: Tokenizer, content: Mapping[str, Any]) -> Tokenizer:
    """With the ids of nothing that a document says; ValueError where it says fewer ids than there are."""
    size = content.get("padded", made.vocab_size)
    if not _is_count(size) or size < made.vocab_size:
        raise ValueError(f"'padded' is a number from {made.vocab_size:,} to {MOST_IDS:,}, not {size!r}")
    return made._padded_to(size)


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, and the separator."""

    name = "byte"
    vocab_size = _BYTES + 1
    separator = _BYTES

    def encode(self, text: str) -> list[int]:
        """The bytes of `text` in UTF-8."""
        return list(text.encode())

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The bytes of every text."""
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]

    def encode_with_places(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        sizes = [len(character.encode()) for character in text]
        return self.encode(text), np.append(np.repeat(np.arange(len(text)), sizes), len(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the bytes among `ids`."""
        return bytes(i for i in ids if i < _BYTES).decode(errors="replace")

    def token_bytes(self) -> NDArray[np.int64]:
        """1 for each byte."""
        return (np.arange(self.vocab_size) < _BYTES).astype(np.int64)

    def _content(self) -> dict[str, Any]:
        return {"name": self.name}


#: What ends or begins a document in the vocabularies of others, the likeliest first.
SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>", "</s>", "<eos>", "<s>", "[SEP]")


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding (Radford et al., 2019), or another model, computed by the `tokenizers` library."""

    def __init__(self, name: str, model: tokenizers.Tokenizer, separator: int) -> None:
        self.name = name
        self.separator = separator
        self.vocab_size = max(model.get_vocab_size(), separator + 1)
        self._model = model
        # What a text spells is text, also where it spells a special token.
        model.encode_special_tokens = True
        kind = json.loads(model.to_str())
        self._byte_level = _is(kind["decoder"], "ByteLevel")
        self.whole_at_spaces = self._byte_level and kind["pre_tokenizer"] == _GPT2_WORDS and not kind["normalizer"]

    @classmethod
    def of_library(cls, document: str) -> BPETokenizer:
        """A `tokenizer.json` of the library: without truncation and padding, and without tokens put around a text."""
        import tokenizers

        model = tokenizers.Tokenizer.from_str(document)
        model.no_truncation()
        model.no_padding()
        ids = (model.token_to_id(mark) for mark in SEPARATORS)
        separator = next((i for i in ids if i is not None), model.get_vocab_size())
        return cls("file", model, separator)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`."""
        return list(self._model.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of every text, on all cores."""
        return [one.ids for one in self._model.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_with_places(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        # As a batch: for a text alone the library holds Python's lock.
        (encoding,) = self._model.encode_batch([text], add_special_tokens=False)
        begins = [begin for begin, _ in encoding.offsets]
        return list(encoding.ids), np.maximum.accumulate(np.array([*begins, len(text)], np.int64))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; ids of no piece are left out."""
        own = self._model.get_vocab_size()
        return str(self._model.decode([i for i in ids if i != self.separator and i < own]))

    def token_bytes(self) -> NDArray[np.int64]:
        """The length of each piece: a byte-level vocabulary spells each byte as one character.

        What another kind of vocabulary stands for depends on what stands around it: 0 for all.
        """
        if not self._byte_level:
            return np.zeros(self.vocab_size, np.int64)
        pieces = (self._model.id_to_token(i) for i in range(self.vocab_size))
        sizes = np.array([len(piece or "") for piece in pieces], dtype=np.int64)
        sizes[self.separator] = 0
        return sizes

    def _content(self) -> dict[str, Any]:
        model = json.loads(self._model.to_str())
        return {"name": self.name, "separator": self.separator, "model": model}


#: How the library writes down the pattern of GPT-2's words.
_GPT2_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _is(part: dict[str, Any] | None, kind: str) -> bool:
    """Whether a part of a model is of a kind, or has one of it in a sequence."""
    if part is None:
        return False
    return part["type"] == kind or any(_is(one, kind) for one in part.get("decoders", ()))
