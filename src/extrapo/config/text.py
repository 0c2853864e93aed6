"""The text and how it is cut into tokens."""

from __future__ import annotations

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import Count, Place, TokenizerSize


class DataSettings(Settings):
    """What is read."""

    data: Place = Field(
        "stdlib",
        description="Text: stdlib, text:PATH, jsonl:PATH, parquet:PATH, hf:NAME, bin:PATH, a corpus by name (extrapo "
        "list corpora, extrapo data list), or several by weight, as in wikitext-2:0.7,stdlib:0.3.",
    )


class TokenizerSettings(Settings):
    """What makes tokens of it."""

    tokenizer: Place = Field(
        "bpe",
        description="bpe (trained on the text), byte, gpt2 (of the Hugging Face hub), gpt2:FOLDER, or file:PATH, any "
        "tokenizer.json.",
    )
    vocab_size: TokenizerSize = Field(4096, description="Vocabulary of the trained tokenizer.")
    pad_vocab: Count = Field(
        1, description="Fill the vocabulary up with ids of nothing to a multiple of this (64 is fast on GPUs)."
    )


# The settings come in the order of the groups from the last to the first, as in a run.
class TextSettings(TokenizerSettings, DataSettings):
    """A text and its tokens."""
