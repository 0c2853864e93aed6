"""Passkey retrieval (Mohtashami and Jaggi, 2305.16300): a number hidden in filler, asked for at the end."""

from __future__ import annotations

import numpy as np

from extrapo.errors import UserError
from extrapo.evaluation.probes.base import PROBES, Item, Probe, Vocabulary

FILLER = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
HIDDEN = " The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = " What is the pass key? The pass key is"


@PROBES.register("passkey")
class Passkey(Probe):
    """The key is one of ten numbers of five digits, which the tokenizer cuts into equally many tokens.

    The place is that of the sentence with the key in the filler: 0 at the beginning of the text, 1 before the question.

    Args:
        tokenizer: the model's.
        keys: how many numbers there are to choose from.
    """

    def __init__(self, tokenizer: Vocabulary, keys: int = 10) -> None:
        super().__init__(tokenizer)
        self.keys = keys
        self.filler = np.array(tokenizer.encode(FILLER), dtype=np.int64)
        self.question = tokenizer.encode(QUESTION)
        self._answers = {key: tuple(tokenizer.encode(f" {key}")) for key in range(10_000, 100_000, 7)}
        sizes = [len(answer) for answer in self._answers.values()]
        self.answer = max(set(sizes), key=sizes.count)
        self.choice = [key for key, answer in self._answers.items() if len(answer) == self.answer]

    def item(self, length: int, place: float, generator: np.random.Generator) -> Item:
        keys = generator.choice(self.choice, size=self.keys, replace=False)
        right = int(generator.integers(self.keys))
        hidden = self.tokenizer.encode(HIDDEN.format(key=keys[right]))
        room = length + 1 - len(hidden) - len(self.question) - self.answer
        if room < 0:
            raise UserError(f"probe 'passkey' needs {length - room} tokens with this tokenizer, more than {length}")
        before = round(place * room)
        filler = np.resize(self.filler, room)
        asked = np.concatenate([filler[:before], hidden, filler[before:], self.question])
        texts = np.stack([np.concatenate([asked, self._answers[int(key)]]) for key in keys])
        return Item(texts.astype(np.int64), self.answer, right, place)
