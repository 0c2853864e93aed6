"""The text and how it is cut into tokens."""

from __future__ import annotations

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import Place, TokenizerSize


class TextSettings(Settings):
    """What is read."""

    data: Place = Field("stdlib", description="Text: stdlib, text:PATH, wikitext-2 or wikitext-2:FOLDER.")
    tokenizer: Place = Field("bpe", description="bpe (trained on the text), byte, or gpt2:FOLDER.")
    vocab_size: TokenizerSize = Field(4096, description="Vocabulary of the trained tokenizer.")
