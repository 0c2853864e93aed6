"""A tokenizer as transformers has them: the same ids, and the separator as a special token."""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from extrapo.data import Tokenizer

#: The separator's name, as in GPT-2's vocabulary.
SEPARATOR = "<|endoftext|>"


def for_transformers(tokenizer: Tokenizer) -> Any:
    """The tokenizer for transformers. Unlike here, a text may spell the separator there, as is usual there.

    Args:
        tokenizer: of a run.
    """
    content = json.loads(tokenizer.to_json())
    model = tokenizers.Tokenizer.from_str(json.dumps(content["model"])) if "model" in content else of_bytes()
    model.add_special_tokens([SEPARATOR])
    assert model.token_to_id(SEPARATOR) == tokenizer.separator
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        pad_token=SEPARATOR,
        clean_up_tokenization_spaces=False,
    )


def of_bytes() -> tokenizers.Tokenizer:
    """The 256 bytes, each its own id."""
    # GPT-2 spells a byte that can be printed as itself, and the others, in order, by the characters from 256 on.
    printed = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printed]
    spelling = {**{byte: chr(byte) for byte in printed}, **{byte: chr(256 + n) for n, byte in enumerate(others)}}
    model = tokenizers.Tokenizer(models.BPE({spelling[byte]: byte for byte in range(256)}, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    return model
