"""The text and how it is cut into tokens."""

from __future__ import annotations

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import Count, Place, TokenizerSize


class TokenizerSettings(Settings):
    """What makes tokens of a text."""

    tokenizer: Place = Field(
        "bpe", description="bpe (trained on the text), byte, gpt2:FOLDER, or file:PATH, any tokenizer.json."
    )
    vocab_size: TokenizerSize = Field(4096, description="Vocabulary of the trained tokenizer.")
    pad_vocab: Count = Field(
        1, description="Fill the vocabulary up with ids of nothing to a multiple of this (64 is fast on GPUs)."
    )


class TextSettings(TokenizerSettings):
    """What is read."""

    data: Place = Field(
        "stdlib",
        description="Text: stdlib, text:PATH, jsonl:PATH, parquet:PATH, hf:NAME, bin:PATH, a corpus by name (extrapo "
        "list corpora, extrapo data list), or several by weight, as in stories:0.5,stdlib:0.5.",
    )
