"""The text and how it is cut into tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from extrapo.config.settings import Settings


class TextSettings(Settings):
    """What is read."""

    data: str = Field("stdlib", description="Text: stdlib, text:PATH, wikitext-2 or wikitext-2:FOLDER.")
    tokenizer: str = Field("bpe", description="bpe (trained on the text), byte, or gpt2:FOLDER.")
    vocab_size: Annotated[int, Field(ge=257)] = Field(4096, description="Vocabulary of the trained tokenizer.")
