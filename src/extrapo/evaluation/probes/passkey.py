"""Passkey retrieval (Mohtashami and Jaggi, 2305.16300): a number hidden in filler, asked for at the end."""

from __future__ import annotations

import numpy as np

from extrapo.errors import UserError
from extrapo.evaluation.probes.base import PROBES, Probe
from extrapo.evaluation.probes.hidden import Filler, Numbers
from extrapo.evaluation.probes.item import Item, Vocabulary

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
        self.numbers, self.filler = Numbers(tokenizer), Filler(tokenizer)
        self.question = tokenizer.encode(QUESTION)

    def item(self, length: int, place: float, generator: np.random.Generator) -> Item:
        keys = self.numbers.draw(self.keys, generator)
        right = int(generator.integers(self.keys))
        hidden = self.tokenizer.encode(HIDDEN.format(key=keys[right]))
        room = length + 1 - len(hidden) - len(self.question) - self.numbers.size
        if room < 0:
            raise UserError(f"probe 'passkey' needs {length - room} tokens with this tokenizer, more than {length}")
        asked = np.concatenate([self.filler.around([(place, hidden)], room), self.question])
        return Item(self.numbers.after(asked, keys), [self.numbers.size] * self.keys, right, place)
