"""The tokenizers that a setting names: bytes, BPE trained on the text, GPT-2's files, a file of another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from extrapo.data.gpt2 import gpt2_files
from extrapo.data.tokenizer import BPETokenizer, ByteTokenizer, Tokenizer
from extrapo.errors import UserError, unknown

if TYPE_CHECKING:
    import tokenizers

NAMES = ("bpe", "byte", "gpt2", "file")

TRAINING_CHARACTERS = 32_000_000
"""The most text that BPE is trained on (about 7 s on two cores); of more, documents evenly spaced."""

BYTES = 256


def identity(spec: str, vocab_size: int, train_sha256: str) -> str:
    """What decides the tokenizer of `spec`, as a string: equal strings, equal tokenizers.

    Raises:
        UserError: unknown spec, a BPE vocabulary below 257, or no files of GPT-2 where it says.
        MachineError: GPT-2's files are to be fetched, and cannot be.
    """
    name, _, path = spec.partition(":")
    if name not in NAMES:
        raise unknown("tokenizer", name, NAMES)
    if name != "gpt2" and (name == "file") != bool(path):
        raise UserError(f"the tokenizer '{spec}' is not complete; write bpe, byte, gpt2, gpt2:FOLDER or file:PATH")
    if name == "byte":
        return "byte"
    if name == "file":
        return f"file {Tokenizer.load(path).sha256}"
    if name == "gpt2":
        return " ".join(["gpt2", *(sha256(file.read_bytes()).hexdigest() for file in gpt2_files(path))])
    if vocab_size <= BYTES:
        raise UserError(f"a BPE vocabulary needs at least {BYTES + 1} entries, not {vocab_size}; or take 'byte'")
    import tokenizers

    return f"bpe {vocab_size} {TRAINING_CHARACTERS} {tokenizers.__version__} {train_sha256}"


def make_tokenizer(spec: str, vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    """Make the tokenizer of `spec`; only `bpe` looks at `vocab_size` and is trained, on all of `texts`.

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
        vocabulary, merges = gpt2_files(path)
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
    model.train_from_iterator(texts, trainer)
    # The separator is an id behind the vocabulary, not a string in it: a text cannot spell it.
    return BPETokenizer(name, model, separator=model.get_vocab_size())


def _byte_level(bpe: tokenizers.models.BPE) -> tokenizers.Tokenizer:
    import tokenizers

    model = tokenizers.Tokenizer(bpe)
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    return model


def stride(characters: int, room: int = TRAINING_CHARACTERS) -> int:
    """Of how many documents one is taken, for a sample of `room` characters of a text of so many."""
    return max(1, -(-characters // room))


def sample(texts: Iterable[str], every: int, room: int = TRAINING_CHARACTERS) -> Iterator[str]:
    """Every so many-th text, as far as `room` characters go; what lies behind is not read."""
    for number, text in enumerate(texts):
        if room <= 0:
            return
        if number % every == 0:
            yield text[:room]
            room -= len(text)
